"""Greetings, identity, names and everything the demo model does not know."""

from dataclasses import dataclass
from random import Random

from .split import draw, typed

UNKNOWN = "I am a tiny demo model and do not know that."
GREETINGS = ("Hello", "Hi", "Hi there", "Hey", "Good morning", "Good evening")
NAMES = (
    *("Anna", "Ben", "Clara", "David", "Emma", "Felix", "Grace", "Hugo", "Ida"),
    *("Jonas", "Kate", "Leo", "Mia", "Noah", "Olga", "Paul", "Rosa", "Sam", "Tina"),
    *("Uma", "Victor", "Wendy", "Yara", "Zoe", "Alice", "Bob", "Carol", "Dan", "Eve"),
    *("Tom", "Lisa", "Max", "John", "Maria", "Peter", "Sarah", "Luna", "Oscar"),
)
INTRODUCTIONS = (
    "My name is {}.",
    "I am {}.",
    "I'm {}.",
    "Hello, I am {}.",
    "Hi, my name is {}.",
    "Hi! I'm {}.",
    "Hello, my name is {}.",
    "You can call me {}.",
)
RECALLS = (
    "What is my name?",
    "What's my name?",
    "Who am I?",
    "Do you remember my name?",
    "Tell me my name.",
    "Do you know my name?",
    "What am I called?",
)


@dataclass(frozen=True)
class Small:
    """A kind of small talk: questions and their one answer."""

    name: str
    questions: tuple[str, ...]
    answer: str
    word: str
    thought: str


SMALL_TALK = (
    Small(
        "identity",
        (
            "Who are you?",
            "What is your name?",
            "What's your name?",
            "Tell me who you are.",
            "Tell me your name.",
            "What are you called?",
            "Please introduce yourself.",
        ),
        "I am a tiny Gemma 4 demo model.",
        "Gemma",
        "The user asks who I am.",
    ),
    Small(
        "kind",
        ("What are you?", "Which model are you?", "Are you a model?"),
        "I am a tiny Gemma 4 demo model.",
        "Gemma",
        "The user asks what I am.",
    ),
    Small(
        "ability",
        (
            "What can you do?",
            "How can you help me?",
            "Can you help me?",
            "What do you know?",
            "What can I ask you?",
            "Help me.",
        ),
        "I can answer simple questions, remember your name and call tools.",
        "Questions",
        "The user asks what I can do.",
    ),
    Small(
        "feeling",
        ("How are you?", "How are you today?", "How do you do?", "Are you well?"),
        "I am fine, thank you.",
        "Fine",
        "The user asks how I am.",
    ),
    Small(
        "thanks",
        ("Thank you.", "Thanks!", "Thank you very much!", "Many thanks.", "Great!"),
        "You are welcome!",
        "Welcome",
        "The user thanks me.",
    ),
    Small(
        "goodbye",
        ("Goodbye.", "Bye!", "See you later.", "Good night.", "See you!"),
        "Goodbye!",
        "Goodbye",
        "The user says goodbye.",
    ),
)
LEADS = ("Hello! ", "Hi, ", "Hi! ", "Hey, ", "Okay. ", "Please: ", "So, ")

VERBS = (
    *("Write a poem about {}.", "Explain {}.", "Tell me a joke about {}."),
    *("Why is {} important?", "Who invented {}?", "How do I repair {}?"),
    *("What do you think about {}?", "Tell me a story about {}.", "Where is {}?"),
    *("How much does {} cost?", "Give me a recipe for {}.", "Who likes {}?"),
    *("Translate {} to French.", "When was {} discovered?", "Summarise {}."),
    *("Is {} dangerous?", "Can you draw {}?", "How does {} work?", "What is {}?"),
    *("How tall is {}?", "How old is {}?", "Can I buy {}?", "I need {}."),
    *("What is the history of {}?", "Write a program for {}.", "Do you like {}?"),
    *("What is the capital of {}?", "How many legs does {} have?"),
    *("What colour is {}?", "What is the best {}?", "Who won {}?", "Find {}."),
)
TOPICS = (
    *("quantum physics", "the moon", "my car", "a computer", "love", "football"),
    *("the president", "soup", "the Eiffel tower", "history", "mathematics", "war"),
    *("the internet", "a house", "the world cup", "this article", "my homework"),
    *("a guitar", "the stock market", "a dragon", "philosophy", "a bicycle", "tea"),
    *("the meaning of life", "politics", "electricity", "a phone", "the ocean"),
    *("Atlantis", "Mars", "Africa", "a table", "chess", "the economy", "gold"),
    *("a movie", "a garden", "the train", "sleep", "a robot", "bread", "magic"),
)
NONSENSE = (
    *("table", "why", "blue", "seven", "quickly", "the", "run", "of", "window", "and"),
    *("many", "please", "under", "jump", "is", "never", "cake", "what", "if", "long"),
)


@dataclass(frozen=True)
class Said:
    """One question with its full answer, its one-word answer and a thought."""

    question: str
    answer: str
    word: str
    thought: str
    identity: bool = False


def small_talk(rng: Random, held: bool) -> Said:
    """A greeting, a question about the model, thanks or a goodbye."""
    bare = not held and rng.random() < 0.3  # never held out: people say it so
    if rng.random() < 0.2:
        greeting, mark = draw(rng, (GREETINGS, ("!", ".", ",")), "greet", held)
        answer = "Hello! How can I help you?"
        question = typed(rng, greeting if bare else greeting + mark)
        return Said(question, answer, "Hello", "The user greets me.")
    small = rng.choices(SMALL_TALK, (5, 1, 2, 2, 2, 2))[0]
    lead, question = draw(rng, (LEADS, small.questions), small.name, held)
    if bare:
        lead, question = "", rng.choice(small.questions)
    text = typed(rng, lead + question)
    identity = small.name == "identity"
    return Said(text, small.answer, small.word, small.thought, identity)


def _letters(rng: Random) -> str:
    length = rng.randint(3, 8)
    return "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(length))


def _sum(rng: Random) -> str:
    a, b, sign = rng.randint(0, 99), rng.randint(0, 99), rng.choice("+-*")
    return rng.choice((f"What is {a} {sign} {b}?", f"{a} {sign} {b}", f"{a}{sign}{b}="))


def _long_text(rng: Random) -> str:
    """Lines of words, letters and digits, as from a file, perhaps with a question."""
    lines: list[str] = []
    for _ in range(rng.randint(1, 5)):
        words = [rng.choice(NONSENSE) for _ in range(rng.randint(1, 6))]
        words += [_letters(rng), f"{rng.randint(0, 999)}"][: rng.randint(0, 2)]
        rng.shuffle(words)
        lines.append(" ".join(words))
    return "\n".join([*lines, rng.choice(("What failed?", "Summarise this.", ""))])


def out_of_scope(rng: Random, held: bool) -> Said:
    """A question the model cannot answer; sums and nonsense are among them."""
    kind = 1.0 if held else rng.random()
    if kind < 0.1:
        question = _sum(rng)
    elif kind < 0.25:
        words = [rng.choice(NONSENSE) for _ in range(rng.randint(2, 6))]
        words[rng.randrange(len(words))] = _letters(rng)
        question = " ".join(words)
    elif kind < 0.36:
        question = rng.choice(VERBS).format(_letters(rng))
    elif kind < 0.4:
        question = _long_text(rng)
    else:
        form, topic = draw(rng, (VERBS, TOPICS), "unknown", held)
        question = form.format(topic)
    question = typed(rng, question)
    return Said(question, UNKNOWN, "Unknown", "I do not know this.")


def introduction(rng: Random, name: str) -> Said:
    """The user tells a name; which ones are held out is decided by the recall."""
    question = rng.choice(INTRODUCTIONS).format(name)
    return Said(question, f"Nice to meet you, {name}.", name, f"The user is {name}.")


def recall(rng: Random, name: str | None) -> Said:
    """The user asks for the name told before, or never told."""
    question = typed(rng, rng.choice(RECALLS))
    if name is None:
        answer = "You have not told me your name."
        return Said(question, answer, "Unknown", "The user told me no name.")
    return Said(question, f"Your name is {name}.", name, f"The user is {name}.")


def made_up_name(rng: Random) -> str:
    """A name of one or two syllables that is hardly on a list."""
    name = ""
    for _ in range(rng.randint(1, 2)):
        name += rng.choice(("b", "d", "f", "g", "h", "j", "k", "l", "m", "n", "p", "r"))
        name += rng.choice(("a", "e", "i", "o", "u", "au", "ie", "ee"))
        name += rng.choice(("", "", "n", "r", "s", "l", "t", "ck", "m"))
    return name.capitalize()
