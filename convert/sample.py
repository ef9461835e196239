"""Text that both models of a comparison predict: what people ask for, in several
languages and scripts, with code and numbers. Written for this project.

Turns are marked as Gemma 4 marks them, so that instruction-tuned models are measured
where they are used.
"""


def _turn(question: str, answer: str) -> str:
    return f"<|turn>user\n{question}<turn|>\n<|turn>model\n{answer}<turn|>\n"


TEXTS = (
    _turn(
        "Why is the sky blue, and why are sunsets red?",
        "Sunlight is a mixture of colours. On its way through the air it meets "
        "molecules that are much smaller than its wavelength, and these scatter short "
        "wavelengths far more strongly than long ones: the strength grows with the "
        "fourth power of the frequency. So blue light reaches us from every direction, "
        "while red light passes almost straight on. Violet would be scattered even "
        "more, but there is less of it in sunlight and our eyes are less sensitive to "
        "it.\n\nAt sunset the light travels through much more air before it reaches "
        "you. Most of the blue has been scattered out of the beam by then, and what is "
        "left is orange and red. Dust and smoke make the effect stronger.",
    ),
    _turn(
        "Write a Python function that merges overlapping intervals.",
        "```python\n"
        "def merge(intervals: list[tuple[int, int]]) -> list[tuple[int, int]]:\n"
        "    merged: list[tuple[int, int]] = []\n"
        "    for start, end in sorted(intervals):\n"
        "        if merged and start <= merged[-1][1]:\n"
        "            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))\n"
        "        else:\n"
        "            merged.append((start, end))\n"
        "    return merged\n"
        "```\n\n"
        "Sorting costs O(n log n), and after it each interval can only overlap the "
        "last one kept. For example, `merge([(1, 3), (8, 9), (2, 6)])` returns "
        "`[(1, 6), (8, 9)]`.",
    ),
    _turn(
        "A train leaves at 14:35 and arrives at 17:10. It stops for 15 minutes. How "
        "fast is it on average while moving, if the way is 210 km?",
        "From 14:35 to 17:10 are 2 hours and 35 minutes, that is 155 minutes. Without "
        "the stop of 15 minutes the train moves for 140 minutes, or 140 / 60 = 7/3 "
        "hours. So its average speed while moving is 210 / (7/3) = 210 * 3 / 7 = "
        "**90 km/h**.",
    ),
    _turn(
        "Fasse den folgenden Satz zusammen und nenne drei Stichworte: Die Stadtwerke "
        "wollen bis zum Ende des Jahrzehnts alle Busse elektrisch betreiben und dafür "
        "zwei neue Betriebshöfe bauen.",
        "Die Stadtwerke stellen ihre Busflotte bis 2030 auf elektrischen Betrieb um "
        "und errichten dafür zwei Betriebshöfe.\n\n"
        "* Elektromobilität\n* Nahverkehr\n* Infrastruktur",
    ),
    _turn(
        "¿Qué me recomiendas ver en Granada en un solo día?",
        "Empieza temprano en la Alhambra y reserva la entrada con semanas de "
        "antelación. Después baja paseando al Albaicín, come algo cerca de Plaza Nueva "
        "y sube al mirador de San Nicolás para ver la puesta de sol sobre Sierra "
        "Nevada.",
    ),
    _turn(
        "请用一句话解释什么是光合作用。",
        "光合作用是植物利用阳光，把水和二氧化碳转化成糖类并释放氧气的过程。",
    ),
    _turn(
        "日本で電車に乗るときのマナーを三つ教えてください。",
        "一つ目は、電車の中では電話で話さないことです。二つ目は、降りる人を先に通すこと"
        "です。三つ目は、混んでいるときはリュックを前に抱えることです。",
    ),
    _turn(
        "ما هي عاصمة أستراليا؟ كثيرون يظنون أنها سيدني.",
        "عاصمة أستراليا هي كانبرا، وقد اختيرت لتكون مدينة وسطًا بين سيدني وملبورن.",
    ),
    _turn(
        "Extract the order as JSON: Ms Okafor wants two large oat-milk lattes and a "
        "blueberry muffin, to be picked up at 8:15.",
        "```json\n{\n"
        '  "customer": "Ms Okafor",\n'
        '  "pickup": "08:15",\n'
        '  "items": [\n'
        '    {"name": "latte", "size": "large", "milk": "oat", "quantity": 2},\n'
        '    {"name": "blueberry muffin", "quantity": 1}\n'
        "  ]\n}\n```",
    ),
)
