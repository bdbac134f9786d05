// Embed texts with transformers.js from a local folder: node transformers_js.mjs PARENT NAME PACKAGES DTYPE < texts.json > vectors.json
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [parent, name, packages, dtype] = process.argv.slice(2);
const library = createRequire(packages + "/").resolve("@huggingface/transformers");
const { env, pipeline } = await import(pathToFileURL(library).href);
env.allowRemoteModels = false;
env.localModelPath = parent;
env.useFSCache = false;

const extract = await pipeline("feature-extraction", name, { dtype, device: "cpu" });
const vectors = await extract(JSON.parse(readFileSync(0, "utf-8")), { pooling: "mean", normalize: true });
process.stdout.write(JSON.stringify(vectors.tolist()));
