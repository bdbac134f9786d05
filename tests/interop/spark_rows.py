"""Parquet in, Parquet out, in a local Spark of two cores: INPUT BUNDLE OUTPUT."""

import sys

from pyspark.sql import SparkSession

from embedge import PoolingParams
from embedge.integrations.spark import encode_column

source, bundle, output = sys.argv[1:4]
settings = {
    "spark.ui.enabled": "false",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.sql.execution.arrow.maxRecordsPerBatch": "64",
}
spark = SparkSession.builder.master("local[2]").config(map=settings).getOrCreate()
rows = encode_column(spark.read.parquet(source), bundle, pooling_params=PoolingParams(normalize=False))
rows.write.parquet(output)
assert spark.sparkContext.defaultParallelism == 2
spark.stop()
