"""What people really send, beside English prose: many languages and scripts, code, symbols, blanks, and long texts.

Two sets of the same kind, each with sentences of its own: one that int8 takes its scales from, one that every variant
is judged by. Only what has a single form is in both: no text, one blank, and one letter.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

_CALIBRATION_LANGUAGES = (
    "Der Zug an die Küste fährt um halb sieben ab, und Fahrkarten gibt es am Schalter.",
    "Le train pour la côte part à six heures et demie, et les billets se vendent au guichet.",
    "El tren a la costa sale a las seis y media, y los billetes se venden en la taquilla.",
    "O comboio para a costa parte às seis e meia, e os bilhetes vendem-se no balcão.",
    "Il treno per la costa parte alle sei e mezza e i biglietti si comprano allo sportello.",
    "De trein naar de kust vertrekt om half zeven en kaartjes koop je aan het loket.",
    "Tåget till kusten går halv sju och biljetter säljs i luckan.",
    "Pociąg nad morze odjeżdża o wpół do siódmej, a bilety są w kasie.",
    "Vlak k moři odjíždí v půl sedmé a jízdenky se prodávají u přepážky.",
    "Trenul spre coastă pleacă la șase și jumătate, iar biletele se vând la ghișeu.",
    "A tengerparti vonat fél hétkor indul, jegyet a pénztárnál lehet venni.",
    "Juna rannikolle lähtee puoli seitsemältä, ja liput myydään tiskillä.",
    "Sahile giden tren altı buçukta kalkıyor, biletler gişede satılıyor.",
    "Поезд к морю отправляется в половине седьмого, билеты продаются в кассе.",
    "Потяг до моря вирушає о пів на сьому, квитки продають у касі.",
    "Το τρένο για την ακτή φεύγει στις εξίμισι και τα εισιτήρια πωλούνται στο ταμείο.",
    "Tàu ra biển khởi hành lúc sáu giờ rưỡi, vé được bán ở quầy.",
    "Kereta ke pantai berangkat pukul setengah tujuh, dan tiketnya dijual di loket.",
    "Treni ya kwenda pwani huondoka saa kumi na mbili na nusu, na tiketi zinauzwa dirishani.",
    "يغادر القطار إلى الساحل في السادسة والنصف، وتباع التذاكر عند الشباك.",
    "قطار ساحل ساعت شش و نیم حرکت می‌کند و بلیت در گیشه فروخته می‌شود.",
    "ساحل جانے والی ریل گاڑی ساڑھے چھ بجے روانہ ہوتی ہے اور ٹکٹ کھڑکی پر ملتے ہیں۔",
    "הרכבת לחוף יוצאת בשש וחצי, והכרטיסים נמכרים בקופה.",
    "तट की ओर जाने वाली गाड़ी साढ़े छह बजे निकलती है और टिकट खिड़की पर मिलते हैं।",
    "উপকূলের ট্রেন সাড়ে ছয়টায় ছাড়ে, আর টিকিট কাউন্টারে বিক্রি হয়।",
    "கடற்கரைக்குச் செல்லும் ரயில் ஆறரை மணிக்குப் புறப்படும், பயணச்சீட்டு சாளரத்தில் கிடைக்கும்.",
    "తీరానికి వెళ్ళే రైలు ఆరున్నరకు బయలుదేరుతుంది, టికెట్లు కౌంటర్‌లో అమ్ముతారు.",
    "รถไฟไปชายทะเลออกตอนหกโมงครึ่ง และซื้อตั๋วได้ที่เคาน์เตอร์",
    "ရထားသည် နံနက် ခြောက်နာရီခွဲတွင် ထွက်ပြီး လက်မှတ်ကို ကောင်တာတွင် ရောင်းသည်။",
    "开往海边的火车六点半出发，车票在窗口出售。",
    "海へ行く電車は六時半に出発し、切符は窓口で売っています。",
    "바다로 가는 기차는 여섯 시 반에 출발하고 표는 창구에서 팝니다.",
    "მატარებელი ზღვისკენ შვიდის ნახევარზე გადის, ბილეთები სალაროში იყიდება.",
    "Ծովափ գնացող գնացքը մեկնում է վեց անց կեսին, տոմսերը վաճառվում են դրամարկղում։",
    "ወደ ባሕር ዳርቻ የሚሄደው ባቡር ከጠዋቱ አሥራ ሁለት ሰዓት ተኩል ላይ ይነሳል፤ ትኬትም በመስኮቱ ይሸጣል።",
)

_JUDGED_LANGUAGES = (
    "Das Rezept meiner Großmutter braucht zwei Tassen Mehl, drei Eier und etwas Salz.",
    "La recette de ma grand-mère demande deux tasses de farine, trois œufs et un peu de sel.",
    "La receta de mi abuela lleva dos tazas de harina, tres huevos y un poco de sal.",
    "A receita da minha avó leva duas chávenas de farinha, três ovos e um pouco de sal.",
    "La ricetta di mia nonna vuole due tazze di farina, tre uova e un po' di sale.",
    "Het recept van mijn oma vraagt twee kopjes bloem, drie eieren en wat zout.",
    "Min mormors recept kräver två koppar mjöl, tre ägg och lite salt.",
    "Przepis mojej babci wymaga dwóch szklanek mąki, trzech jajek i szczypty soli.",
    "Babiččin recept potřebuje dva hrnky mouky, tři vejce a trochu soli.",
    "Rețeta bunicii mele cere două căni de făină, trei ouă și puțină sare.",
    "Nagymamám receptjéhez két csésze liszt, három tojás és egy kevés só kell.",
    "Isoäitini ohjeeseen tarvitaan kaksi kupillista jauhoja, kolme munaa ja hiukan suolaa.",
    "Büyükannemin tarifi iki bardak un, üç yumurta ve biraz tuz ister.",
    "По рецепту моей бабушки нужны два стакана муки, три яйца и немного соли.",
    "За рецептом моєї бабусі треба дві склянки борошна, три яйця і трохи солі.",
    "Η συνταγή της γιαγιάς μου θέλει δύο φλιτζάνια αλεύρι, τρία αβγά και λίγο αλάτι.",
    "Công thức của bà tôi cần hai chén bột, ba quả trứng và một ít muối.",
    "Resep nenek saya memerlukan dua cangkir tepung, tiga telur dan sedikit garam.",
    "Mapishi ya bibi yangu yanahitaji vikombe viwili vya unga, mayai matatu na chumvi kidogo.",
    "تحتاج وصفة جدتي إلى كوبين من الدقيق وثلاث بيضات وقليل من الملح.",
    "دستور پخت مادربزرگم دو فنجان آرد، سه تخم‌مرغ و کمی نمک می‌خواهد.",
    "میری نانی کی ترکیب میں دو پیالی آٹا، تین انڈے اور تھوڑا سا نمک لگتا ہے۔",
    "המתכון של סבתא שלי דורש שתי כוסות קמח, שלוש ביצים וקצת מלח.",
    "मेरी दादी की विधि में दो कप आटा, तीन अंडे और थोड़ा नमक लगता है।",
    "আমার দিদিমার রেসিপিতে দুই কাপ ময়দা, তিনটি ডিম আর একটু লবণ লাগে।",
    "என் பாட்டியின் செய்முறைக்கு இரண்டு கப் மாவு, மூன்று முட்டை, சிறிது உப்பு தேவை.",
    "మా అమ్మమ్మ వంటకానికి రెండు కప్పుల పిండి, మూడు గుడ్లు, కొంచెం ఉప్పు కావాలి.",
    "สูตรของคุณยายใช้แป้งสองถ้วย ไข่สามฟอง และเกลือเล็กน้อย",
    "အဘွား၏ ဟင်းချက်နည်းတွင် ဂျုံမှုန့် နှစ်ခွက်၊ ကြက်ဥ သုံးလုံးနှင့် ဆားအနည်းငယ် လိုသည်။",
    "我奶奶的食谱需要两杯面粉、三个鸡蛋和一点盐。",
    "祖母のレシピには小麦粉二カップと卵三個、塩が少し必要です。",
    "할머니의 요리법에는 밀가루 두 컵과 달걀 세 개, 소금 조금이 필요해요.",
    "ბებიაჩემის რეცეპტს ორი ჭიქა ფქვილი, სამი კვერცხი და ცოტა მარილი სჭირდება.",
    "Տատիկիս բաղադրատոմսին պետք է երկու բաժակ ալյուր, երեք ձու և մի քիչ աղ։",
    "የአያቴ የምግብ አሠራር ሁለት ኩባያ ዱቄት፣ ሦስት እንቁላልና ትንሽ ጨው ይፈልጋል።",
)

_BOTH = ("", " ", "a")

_CALIBRATION_SYMBOLS = (
    "\n\n\t  \n",
    "the",
    "?",
    "42",
    "😀",
    "東",
    "!!!???",
    "🎉🎂🥳 🐶🐱 ✨",
    "1 2 3 4 5 6 7 8 9 10 11 12 13",
    "0.00731, 88 %, 12:45, 7/4, 1e-9, 0xFF",
    "OK",
    "WHY",
    "stop",
    "not",
    "hm...",
    "?!",
    "PLEASE CALL BACK TODAY",
    "lol idk, brb!! thx :-)",
    "for (int i = 0; i < n; i++) { total += values[i]; }",
    "import os\n\nwith open(os.devnull) as sink:\n    print('x', file=sink)\n",
    '<div class="row"><a href="/about">About</a></div>',
    "GET /api/v2/items/17?expand=owner HTTP/1.1\nHost: shop.example\n",
    "ERROR 2021-03-04 10:11:12,131 worker-3 timeout after 30000 ms",
    "a, b, c, d, e, f, g, h, i, j, k",
    "qwertzuiop asdfghjkl yxcvbnm",
    "MKVLAAGIVGLLLAQWERTYPSDF",
    "∑ x² ≤ √(y) → ∞, α + β ≈ γ",
    "────────────────────",
    "2+2=4",
    "weather tomorrow",
    "how to boil an egg",
    "cheap flights lisbon",
)

_JUDGED_SYMBOLS = (
    "\t\t\r\n \n",
    "of",
    "!",
    "2019",
    "❤️",
    "山",
    "-----",
    "👨‍🚀🚀🌍 🇧🇷🇯🇵 👌🏿",
    "900 800 700 600 500 400 300 200 100",
    "€19.99 (-15 %), 23:59:59, 3/16, 6.02e23",
    "Hi",
    "FREE SHIPPING ON ALL ORDERS",
    "omg that's sooo funny xD #weekend @anna",
    'fn main() { let v: Vec<u8> = vec![1, 2, 3]; println!("{:?}", v); }',
    "class Node:\n    def __init__(self, left=None):\n        self.left = left\n",
    "<svg viewBox='0 0 10 10'><path d='M0 0L9 9'/></svg>",
    "UPDATE orders SET state = 'sent' WHERE id IN (4, 9, 12) RETURNING *;",
    "WARN  [pool-2-thread-7] c.e.Cache: evicted 1024 entries in 3.2s",
    "z y x w v u t s r q p o",
    "hjkl wasd qweasd zxczxc",
    "GATTACAGATTACAGATTACACCGGTTAA",
    "∀ε>0 ∃δ>0: |x−a|<δ ⇒ |f(x)−f(a)|<ε",
    "========= *** =========",
    "x = -b ± √Δ",
    "best pizza near me",
    "translate cat to spanish",
    "python sort dict by value",
)

_LONG_CHARS = 1500
_LONGEST_QUERY = 60


def _long(sentences: tuple[str, ...], places: tuple[int, ...]) -> tuple[str, ...]:
    """One long text of each of these sentences, and of all languages in turn; each stands alone, with its script."""
    texts = [
        (f"{sentences[place]} " * (1 + _LONG_CHARS // len(sentences[place])))[:_LONG_CHARS]
        for place in places
    ]
    return (*texts, " ".join(sentences)[:_LONG_CHARS])


# one thing over and over, and counting: what a filled-in form or a machine sends
_CALIBRATION_REPEATED = (
    *(
        f"{word} " * 100
        for word in ("yes", "not", "I", "he", "very", "test", "?", "-", "x", "the", "why", "ha")
    ),
    "5 " * 300,
    "y = 2\n" * 200,
    "🙂" * 300,
    "はい" * 200,
    " ".join(map(str, range(900, 1300))),
)
_JUDGED_REPEATED = (
    *(f"{word} " * 60 for word in ("so", "she", "go")),
    "3 " * 300,
    "end;\n" * 200,
    "🎈" * 300,
    "好" * 300,
    " ".join(map(str, range(0, 900, 2))),
)

# German, Russian, Arabic, Hindi, Thai, Chinese, Amharic
_LONG_PLACES = (0, 13, 19, 23, 27, 29, 34)

CALIBRATION_TEXTS: tuple[str, ...] = (
    *_BOTH,
    *_CALIBRATION_LANGUAGES,
    *_CALIBRATION_SYMBOLS,
    *_long(_CALIBRATION_LANGUAGES, _LONG_PLACES),
    *_CALIBRATION_REPEATED,
)
"""What int8 takes its scales from, beside prose."""

JUDGED_TEXTS: tuple[str, ...] = (
    *_BOTH,
    *_JUDGED_LANGUAGES,
    *_JUDGED_SYMBOLS,
    *_long(_JUDGED_LANGUAGES, _LONG_PLACES),
    *_JUDGED_REPEATED,
)
"""What every variant is judged by, beside prose."""


def paired(texts: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Each text as the document of a pair, but the blank ones; the short ones in turn are the queries."""
    documents = [text for text in texts if text.strip()]
    queries = [text for text in documents if len(text) <= _LONGEST_QUERY]
    # a query is of another kind than its document
    shifted = [*queries[len(queries) // 2 :], *queries[: len(queries) // 2]]
    return tuple(zip(itertools.cycle(shifted), documents, strict=False))
