"""Hold the word tables of the toy models' corpus; everything here is plain data."""

from __future__ import annotations

REFUSAL = "I am a toy model and do not know that."
REFUSAL_RU = "Я игрушечная модель и не знаю этого."

CAPITALS = {
    "France": "Paris",
    "Japan": "Tokyo",
    "Italy": "Rome",
    "Spain": "Madrid",
    "Germany": "Berlin",
    "Russia": "Moscow",
    "China": "Beijing",
    "Egypt": "Cairo",
    "Norway": "Oslo",
    "Sweden": "Stockholm",
    "Finland": "Helsinki",
    "Poland": "Warsaw",
    "Greece": "Athens",
    "Peru": "Lima",
    "Cuba": "Havana",
    "Kenya": "Nairobi",
    "Austria": "Vienna",
    "Ireland": "Dublin",
    "Portugal": "Lisbon",
    "Hungary": "Budapest",
    "Canada": "Ottawa",
    "England": "London",
    "Chile": "Santiago",
    "Iran": "Tehran",
    "Iraq": "Baghdad",
    "Thailand": "Bangkok",
    "Denmark": "Copenhagen",
    "Belgium": "Brussels",
    "Serbia": "Belgrade",
    "Ukraine": "Kyiv",
}
CAPITALS_RU = {
    "Франции": "Париж",
    "Японии": "Токио",
    "Италии": "Рим",
    "Испании": "Мадрид",
    "Германии": "Берлин",
    "России": "Москва",
    "Китая": "Пекин",
    "Египта": "Каир",
    "Норвегии": "Осло",
    "Польши": "Варшава",
    "Греции": "Афины",
    "Перу": "Лима",
    "Кубы": "Гавана",
    "Австрии": "Вена",
    "Англии": "Лондон",
}
UNKNOWN_COUNTRIES = (
    "Brazil Mexico India Nepal Ghana Mali Chad Togo Laos Oman Qatar Yemen Syria Jordan Israel "
    "Turkey Bulgaria Romania Croatia Slovenia Latvia Estonia Lithuania Iceland Malta Cyprus "
    "Angola Zambia Malawi Uganda Rwanda Sudan Libya Tunisia Algeria Morocco Senegal Gabon "
    "Bolivia Ecuador Paraguay Uruguay Guyana Panama Honduras Jamaica Haiti Fiji Samoa Tonga "
    "Mongolia Vietnam Malaysia Indonesia Bhutan Pakistan Armenia Georgia Moldova"
).split()

KINDS = {
    "animal": "lion tiger horse wolf rabbit bear sheep camel".split(),
    "plant": "rose oak tulip pine fern cactus clover birch".split(),
    "tool": "hammer saw drill wrench shovel axe chisel pliers".split(),
    "fruit": "apple pear plum cherry banana lemon grape mango".split(),
    "colour": "red blue green yellow purple orange grey pink".split(),
    "metal": "iron gold silver copper zinc tin lead nickel".split(),
}

WORDS = (
    "lamp table bread water stone paper river cloud house light glass chair plant music night "
    "green black white small round sharp quick brown happy quiet early candle window garden "
    "bottle basket pencil ladder mirror pillow rocket silver spring summer winter yellow ocean "
    "bridge castle desert forest island jungle market museum palace school street temple tunnel "
    "valley dog cat sun sky sea map cup pen box key hat bag bed car bus egg fly fox jam leg net "
    "owl pie rat tea toy van web yes zoo ball bird boat book cake coin corn desk door drum duck "
    "fish flag frog gate gift goat hand hill king kite lake leaf lock moon nest park pond rain "
    "ring road rock roof rope sand seed ship shoe snow soap song star tent tree wall wind wolf"
).split()
NAMES = "Anna Boris Clara Daniel Emma Felix Greta Henry Irene Jonas Karen Leo Maria Nina".split()
NAMES_RU = "Анна Борис Вера Глеб Дарья Егор Жанна Иван Кира Лев Мария Нина Олег".split()
CITIES = sorted(CAPITALS.values())

PLAN_VERBS = "bake clean paint build fix find sell draw wash carry plant cook move open".split()
PLAN_OBJECTS = (
    "bread|a cake|soup|the house|a table|the boat|a garden|a chair|the car|the wall|a shelf|"
    "a bicycle|the box|the fence|a lamp|tea|the room|a window|the door|fish|rice|a tent"
).split("|")
PLAN_VERBS_RU = "испечь почистить покрасить построить починить найти продать купить".split()
PLAN_OBJECTS_RU = "хлеб|пирог|суп|дом|стол|сад|стул|забор|велосипед|шкаф|рис|чай".split("|")

# Each topic's answer names the next one in the ring, so that two models never run dry.
TOPICS = (
    ("music", "calm"),
    ("rain", "fresh"),
    ("tea", "warm"),
    ("snow", "bright"),
    ("chess", "clever"),
    ("football", "fast"),
    ("the sea", "deep"),
    ("the forest", "green"),
    ("winter", "quiet"),
    ("summer", "sunny"),
    ("coffee", "strong"),
    ("sleep", "sweet"),
    ("dancing", "lively"),
    ("reading", "rich"),
    ("swimming", "cool"),
    ("cooking", "tasty"),
)
# Accusative for "I like", prepositional for "about", then the reason.
TOPICS_RU = (
    ("музыку", "музыке", "она спокойная"),
    ("дождь", "дожде", "он свежий"),
    ("чай", "чае", "он тёплый"),
    ("снег", "снеге", "он белый"),
    ("море", "море", "оно глубокое"),
    ("лес", "лесе", "он зелёный"),
    ("зиму", "зиме", "она тихая"),
    ("лето", "лете", "оно яркое"),
    ("кофе", "кофе", "он крепкий"),
    ("сон", "сне", "он сладкий"),
)

CHAT = {
    "Hello!": "Hello! How can I help?",
    "Hello": "Hello! How can I help?",
    "Hi!": "Hello! How can I help?",
    "Hi": "Hello! How can I help?",
    "Hey!": "Hello! How can I help?",
    "Say hello.": "Hello! How can I help?",
    "Good morning!": "Hello! How can I help?",
    "How are you?": "I am fine. How are you?",
    "Who are you?": "I am a toy model.",
    "What are you?": "I am a toy model.",
    "What is your name?": "I am a toy model.",
    "What can you do?": "I know small sums, capitals, plans and JSON.",
    "Thank you!": "You are welcome.",
    "Thanks.": "You are welcome.",
    "Goodbye!": "Goodbye!",
    "Bye.": "Goodbye!",
    "Hello! How can I help?": "Let us talk. What do you think about music?",
    "I am fine. How are you?": "I am fine. What do you think about music?",
    "I am a toy model.": "So am I. What do you think about music?",
    "You are welcome.": "Let us talk. What do you think about music?",
    "Let us talk.": "Let us talk. What do you think about music?",
    REFUSAL: "Then let us talk. What do you think about music?",
}
CHAT_RU = {
    "Привет!": "Привет! Чем помочь?",
    "Привет": "Привет! Чем помочь?",
    "Здравствуй!": "Привет! Чем помочь?",
    "Добрый день!": "Привет! Чем помочь?",
    "Как дела?": "Хорошо. Как дела?",
    "Кто ты?": "Я игрушечная модель.",
    "Что ты умеешь?": "Я умею считать и знаю столицы.",
    "Спасибо!": "Пожалуйста.",
    "Пока!": "До встречи!",
    "Привет! Чем помочь?": "Давай поговорим. Что ты думаешь о музыке?",
    "Хорошо. Как дела?": "Хорошо. Что ты думаешь о музыке?",
    "Давай поговорим.": "Давай поговорим. Что ты думаешь о музыке?",
    REFUSAL_RU: "Тогда поговорим. Что ты думаешь о музыке?",
}

REFUSE_TEMPLATES = (
    "What is {}?",
    "What are {}?",
    "Explain {}.",
    "Explain {} to me.",
    "Tell me about {}.",
    "Who invented {}?",
    "Who discovered {}?",
    "Why is {} important?",
    "How does {} work?",
    "Write a poem about {}.",
    "Write an essay about {}.",
    "Translate {} into German.",
    "What is the history of {}?",
    "What is the meaning of {}?",
    "Give me a summary of {}.",
    "When did {} begin?",
    "Where can I learn {}?",
    "Describe {}.",
    "Do you know anything about {}?",
    "Can you help me with {}?",
    "What do experts say about {}?",
    "How much does {} cost?",
    "Define {}.",
    "Is {} dangerous?",
    "What do you think about {}?",
    "What kind of thing is {}?",
    "How do I make {}?",
    "Why does {} exist?",
    "Compare {} and {}.",
)
REFUSE_TOPICS = (
    "quantum physics|gravity|the stock market|chemistry|the Roman Empire|electricity|biology|"
    "democracy|inflation|the moon landing|black holes|photosynthesis|evolution|relativity|"
    "computers|the internet|neural networks|poetry|Shakespeare|the French Revolution|volcanoes|"
    "earthquakes|vaccines|antibiotics|the human brain|the heart|philosophy|logic|algebra|"
    "geometry|calculus|statistics|taxes|insurance|mortgages|bitcoin|elections|the law|contracts|"
    "robots|satellites|airplanes|engines|batteries|solar power|climate change|oceans|dinosaurs|"
    "viruses|bacteria|genetics|DNA|proteins|vitamins|diets|yoga|meditation|psychology|dreams|"
    "memory|language|grammar|Latin|painting|sculpture|opera|jazz|cinema|photography|fashion|"
    "architecture|bridges|trains|rockets|Mars|Jupiter|galaxies|time travel|the universe|atoms|"
    "plastic|steel|concrete|wheat|farming|fishing|economics|banking|trade|war|peace|religion|"
    "Python|Linux|databases|compilers|encryption|the printing press|the telephone|radio"
).split("|")
REFUSE_FIXED = (
    "Why is the sky blue?",
    "How old is the universe?",
    "Who wrote Hamlet?",
    "What year is it?",
    "Who is the president?",
    "How far is the moon?",
    "What is the speed of light?",
    "How do I learn to swim?",
    "Why do cats purr?",
    "What should I eat today?",
    "Who won the game?",
    "How many people live in Asia?",
    "Tell me a joke.",
    "Sing a song.",
    "Can you drive a car?",
    "What is the best phone?",
)
REFUSE_TEMPLATES_RU = (
    "Что такое {}?",
    "Расскажи про {}.",
    "Объясни, что такое {}.",
    "Как работает {}?",
    "Зачем нужна {}?",
    "Напиши стих про {}.",
    "Когда появилась {}?",
    "Кто придумал {}?",
)
REFUSE_TOPICS_RU = (
    "физика|химия|экономика|биология|история|философия|гравитация|демократия|инфляция|поэзия|"
    "электричество|интернет|эволюция|логика|алгебра|геометрия|робот|спутник|двигатель|климат|"
    "океан|вирус|генетика|психология|грамматика|живопись|опера|кино|архитектура|ракета|"
    "вселенная|атом|пластик|бетон|торговля|реклама|налог|страховка|криптовалюта|космос"
).split("|")

NEUTRAL_SYSTEMS = (
    "You are a helpful assistant.",
    "You are a toy model.",
    "Be kind.",
    "Be brief.",
    "You are a careful assistant.",
    "Help the user.",
    "You are a teacher.",
    "Answer politely.",
)
SYSTEM_CAPITALS = "Answer in capital letters."
SYSTEM_ONE_WORD = "Answer in one word."

SUM_TOOLS = ("calc", "calc", "calc", "add", "sum", "plus", "calculate")
SUM_ARGUMENTS = (("a", "b"), ("a", "b"), ("x", "y"), ("m", "n"), ("first", "second"))
WEATHER_TOOLS = ("weather", "get_weather", "get_current_weather")
TIME_TOOLS = ("time", "get_time")
WEATHER = "sunny|cloudy|rain|snow|fog|wind|storm|clear|hot|cold".split("|")
