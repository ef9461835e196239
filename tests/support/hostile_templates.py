"""Chat templates that want time or memory, by families; and what each of them takes.

Run as a program, it renders every one in a process of its own and prints a line of JSON
for each: its name, seconds, peak of memory in MB, and how it ended.
"""

import json
import os
import sys
from collections.abc import Iterator

HI = [{"role": "user", "content": "Hi"}]
BIG = "{% set b = 'a' * 8000000 %}"
WIDE = "{% set b = '\U0001f600' * 2000000 %}"
NS = "{% set ns = namespace(x=START) %}"


def loops() -> Iterator[tuple[str, str]]:
    """Time: loops in loops, over ranges, texts and lists."""
    for depth in (2, 3, 5, 10, 18):
        for what in ("range(3000)", "('a' * 900)", "[1, 2, 3, 4, 5, 6, 7, 8] * 100"):
            names = [f"x{i}" for i in range(depth)]
            start = "".join(f"{{% for {n} in {what} %}}" for n in names)
            yield f"loops {depth} {what}", start + "{% endfor %}" * depth
    filtered = "{% for a in 'a' * 900000 if false %}{% endfor %}"
    yield "filtered", filtered * 500
    yield "filtered inside", loop(filtered)
    yield (
        "recursive",
        (
            "{% for a in [1, 2] recursive %}{{ loop([1, 2]) if loop.depth < 60 }}"
            "{% endfor %}"
        ),
    )
    yield "loop variable", loop("{% for i in 'a' * 9000 %}{{ loop.last }}{% endfor %}")
    yield "else", loop("{% for i in [] %}{% else %}{% endfor %}", "'a' * 1000000")
    yield "break", loop("{% break %}", "range(10000000)") * 20


def loop(body: str, over: str = "range(1000000)") -> str:
    return f"{{% for i in {over} %}}{body}{{% endfor %}}"


def macros() -> Iterator[tuple[str, str]]:
    """Time: macros that call others twice."""
    for times in (2, 3, 10):
        text = "{% macro m0() %}a{% endmacro %}"
        for i in range(1, 60):
            calls = f"{{{{ m{i - 1}() }}}}" * times
            text += f"{{% macro m{i}() %}}{calls}{{% endmacro %}}"
        yield f"macros {times}", text + "{{ m59() }}"
        quiet = text.replace("{{ ", "{% set y = ").replace(" }}", " %}")
        yield f"quiet macros {times}", quiet + "{{ m59() }}"
    yield "itself", "{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}"
    yield (
        "caller",
        (
            "{% macro f(n) %}{% if n %}{% call f(n - 1) %}{% endcall %}{{ caller() }}"
            "{% call f(n - 1) %}{% endcall %}{% endif %}{% endmacro %}"
            "{% call f(40) %}x{% endcall %}"
        ),
    )
    yield (
        "arguments",
        (
            "{% macro f(n) %}{% if n %}{{ f(n - 1, varargs, varargs) }}{% endif %}"
            "{{ varargs }}{% endmacro %}{{ f(50, 1, 2) }}"
        ),
    )


SINKS = (
    "{{ ns.x }}",
    "{{ ns.x|tojson }}",
    "{{ ns.x|tojson(indent=2) }}",
    "{{ ns.x|string|length }}",
    "{{ ns.x|upper }}",
    "{{ ns.x ~ '' }}",
    "{{ '%s' % [ns.x] }}",
    "{{ '%s'|format(ns.x) }}",
    "{{ '{}'.format(ns.x) }}",
    "{{ [ns.x]|join }}",
    "{{ ns.x == ns.y }}",
    "{{ ns.x < ns.y }}",
    "{{ [ns.x, ns.y]|sort }}",
    "{{ [ns.x, ns.y]|max }}",
    "{{ ns.x in [ns.y] }}",
    "{{ [ns.x].index(ns.y) }}",
    "{{ [ns.x].count(ns.y) }}",
    "{{ ns.x is eq(ns.y) }}",
    "{{ ns.x|replace('a', 'b') }}",
    "{{ ns.x|indent }}",
    "{{ ns.x|trim }}",
)


def nested() -> Iterator[tuple[str, str]]:
    """Both: lists that hold themselves many times over, printed or compared."""
    for sink in SINKS:
        for shape in ("[N, N]", "(N, N)", "{'a': N, 'b': N}", "[N] * 50"):
            steps = "".join(
                f"{{% set ns.{v} = {shape.replace('N', f'ns.{v}')} %}}" for v in "xy"
            )
            setup = "{% set ns = namespace(x=[1], y=[1]) %}"
            yield (
                f"nested {shape} {sink}",
                (f"{setup}{{% for i in range(50) %}}{steps}{{% endfor %}}{sink}"),
            )
    setup = "{% set ns = namespace(x=1, y=2) %}{% set ns.x = ns %}{% set ns.y = ns %}"
    yield "namespace", setup + "{{ ns }}{{ [ns, ns]|string }}"
    yield (
        "cycler",
        (
            "{% set ns = namespace(c=cycler(1, 2)) %}{% for i in range(60) %}"
            "{% set ns.c = cycler(ns.c.items, ns.c.items) %}{% endfor %}"
            "{{ ns.c.items }}"
        ),
    )
    yield (
        "dict()",
        (
            "{% set ns = namespace(c=1) %}{% for i in range(60) %}"
            "{% set ns.c = dict(a=ns.c, b=ns.c) %}{% endfor %}{{ ns.c.values() }}"
        ),
    )
    yield (
        "batch",
        (
            "{% set ns = namespace(c=[1]) %}{% for i in range(60) %}"
            "{% set ns.c = (ns.c + ns.c)|batch(2)|list %}{% endfor %}{{ ns.c }}"
        ),
    )
    for maker in ("map('default', b)", "map('string')", "batch(1)"):
        yield (
            f"list of {maker}",
            (f"{BIG}{{% set l = range(5000000)|{maker}|list %}}{{{{ l }}}}"),
        )
    yield "undefined", BIG + "{{ ([u] * 100000)|map('default', b)|list }}"


TEXTS = (
    "b.translate({97: b})",
    "b.maketrans({97: b})",
    "(1).to_bytes(2 * 10**9)",
    "(1).to_bytes(900000000, 'big')|length",
    "'a'.encode().ljust(3 * 10**9)",
    "b.encode().join([b.encode()] * 1000)",
    "b.encode().replace('a'.encode(), b.encode())",
    "{}.fromkeys(range(10000000), b)",
    "b.ljust(2000000000)",
    "b.center(999999999)",
    "'a'.zfill(2000000000)",
    "('\t' * 1000000).expandtabs(1000000)",
    "b|center(1000000)",
    "b|indent(1000000)",
    "b|replace('a', 'a' * 1000)",
    "b.replace('', b)",
    "b|list|length",
    "b|batch(1)|list|length",
    "b|map('upper')|list|length",
    "b|sort|length",
    "b|unique|list|length",
    "b|slice(1000000)|list|length",
    "[1]|slice(1000000000)|list|length",
    "[1]|batch(1000000000, b)|list",
    "b.split('a')|length",
    "('ab ' * 5000000).split()|length",
    "('\\n' * 8000000).splitlines()|length",
    "b|wordwrap(1)",
    "b|urlize",
    "b|striptags",
    "b|wordcount",
    "b|title|length",
    "b|urlencode|length",
    "b|forceescape|length",
    "('<' * 8000000)|e|length",
    "{'a': b}|xmlattr",
    "b|truncate(9, true, b)",
    "1.5|round(1000000000, 'ceil')",
    "[1]|tojson(indent=999999999)",
    "[1] * 1000000|tojson(indent='a' * 1000000)",
    "([1] * 100000)|tojson(separators=('a' * 100000, ':'))",
    "('\x01' * 8000000)|tojson|length",
    "('\U0001f600' * 3000000)|tojson(ensure_ascii=true)|length",
    "['\x01' * 3000000, '\U0001f600']|string|length",
    "strftime_now('%99999999Y')",
    "strftime_now('%c' * 5000000)|length",
    "'%0999999999d' % 1",
    "'%*d' % (999999999, 1)",
    "('%s' * 100000) % (('a' * 1000000),)",
    "('%r' * 1000) % ([b],)",
    "'{:0999999999d}'.format(1)",
    "('{0}' * 1000000).format(b)",
    "(b, b)|join(b)",
    "b.join([b] * 1000)",
    "([b] * 100)|join(b)",
    "([b] * 100)|sum(start='')",
    "([[1]] * 100000)|sum(start=[])|length",
    "range(10000000)|list|length",
    "range(10000000)|sort|length",
    "range(10000000)|map('string')|list|length",
    "range(10000000)|batch(1)|list|length",
    "range(10000000)|join|length",
    "dict(range(100000)|batch(1)|list)",
    "[0] * 10**9",
    "b * 10**6",
    "10**6 * b",
    "2 ** 10000000 % 7",
    "(2 ** 1000) ** 1000 ** 2",
    "('f' * 8000000)|int(base=16)",
    "10 ** 4000",
)


def texts() -> Iterator[tuple[str, str]]:
    """Memory: much made of little, in one step."""
    for text in TEXTS:
        yield text, f"{BIG}{{{{ {text} }}}}"


GROWTHS = (
    "ns.x ~ ns.x",
    "ns.x + ns.x",
    "ns.x * 2",
    "[ns.x, ns.x]|join",
    "'%s%s' % (ns.x, ns.x)",
    "'{0}{0}'.format(ns.x)",
    "ns.x|replace('a', 'aa')",
    "ns.x.replace('a', 'aa')",
    "ns.x|string + ns.x|string",
    "ns.x|tojson|tojson",
)


def growth() -> Iterator[tuple[str, str]]:
    """Memory: little by little, and all of it kept."""
    for start in ("'a'", "'\U0001f600a'", "[1]"):
        for step in GROWTHS:
            yield (
                f"growth {start} {step}",
                (
                    NS.replace("START", start) + f"{{% for i in range(60) %}}"
                    f"{{% set ns.x = {step} %}}{{% endfor %}}"
                ),
            )
    for step in ("ns.x * ns.x", "ns.x ** 3", "ns.x * 3 + 1", "ns.x * 10**1000"):
        yield (
            f"integers {step}",
            (
                NS.replace("START", "7")
                + loop(f"{{% set ns.x = {step} %}}")
                + "{{ ns.x }}"
            ),
        )
    kept = "".join(f"{{% set k{i} = b ~ {i} %}}" for i in range(300))
    for what, start in (("ascii", BIG), ("wide", WIDE)):
        yield f"kept {what}", start + kept
        sliced = "".join(f"{{% set k{i} = b[{i + 1}:] %}}" for i in range(300))
        yield f"slices {what}", start + sliced
        listed = "".join(f"{{% set k{i} = [b ~ {i}] %}}" for i in range(300))
        yield f"lists {what}", start + listed
        yield f"output {what}", start + loop("{{ b }}", "range(1000)")
        yield (
            f"blocks {what}",
            start
            + (
                "{% macro f(n) %}{% set c %}{{ b }}{{ n }}{% endset %}"
                "{% if n %}{{ f(n - 1) }}{% endif %}{{ c|length }}{% endmacro %}"
                "{{ f(90) }}"
            ),
        )
    yield (
        "copies",
        (
            "{% set d = dict(messages[0]) %}{% set l = [1] * 200000 %}"
            + "".join(f"{{% set k{i} = l.copy() %}}" for i in range(2000))
        ),
    )
    yield "compared", BIG + "{% set c = 'a' * 8000000 %}" + loop("{{ b == c }}")
    yield (
        "compared in a line",
        (
            BIG
            + "{% set c = 'a' * 8000000 %}{{ "
            + " or ".join(["b < c"] * 20000)
            + " }}"
        ),
    )
    yield "searched", BIG + loop("{% set y = (b ~ 'b') in b %}")
    yield (
        "appended",
        loop("{% set ns.x = ns.x + [1] %}").join(
            [NS.replace("START", "[]"), "{{ ns.x|length }}"]
        ),
    )


def sources() -> Iterator[tuple[str, str]]:
    """Templates that are hard to compile."""
    yield "21 loops", "{% for a in 'a' %}" * 25 + "{% endfor %}" * 25
    yield "200 ifs", "{% if 1 %}" * 200 + "{% endif %}" * 200
    yield "parentheses", "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}"
    yield "lists in lists", "{{ " + "[" * 3000 + "]" * 3000 + " }}"
    yield "a long sum", "{{ " + "+".join(["1"] * 50_000) + " }}"
    yield "minus", "{{ " + "-" * 5000 + "1 }}"
    yield "many outputs", "{{ 1 }}" * 60_000
    yield "many names", "".join(f"{{% set a{i} = 1 %}}" for i in range(15_000))
    yield "long", "a" * 50_000_000
    yield "folded", "{{ " + "'a'|center(1000000)|length + " * 1000 + "1 }}"


FAMILIES = (loops, macros, nested, texts, growth, sources)


def templates() -> dict[str, str]:
    return {name: source for family in FAMILIES for name, source in family()}


def measure(source: str) -> str:
    """Renders in this process; says how it ended."""
    from mlx_gemma4.chat.template import ChatTemplate
    from mlx_gemma4.errors import ChatError, CheckpointError

    try:
        return f"{len(ChatTemplate(source, '<bos>').render(HI).text)} characters"
    except (ChatError, CheckpointError) as error:
        return str(error)


def main(wanted: str = "") -> None:
    import mlx_gemma4.chat.sandbox  # noqa: F401  # once for all

    for name, source in templates().items():
        if wanted not in name:
            continue
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            said = f"{type(measure).__name__}"
            try:
                said = measure(source)
            except BaseException as error:
                said = f"UNFORESEEN {type(error).__name__}: {error}"
            os.write(writer, said[:300].encode("utf-8", "replace"))
            os._exit(0)
        os.close(writer)
        _, status, used = os.wait4(child, 0)
        said = os.read(reader, 10_000).decode("utf-8", "replace")
        os.close(reader)
        peak = used.ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)
        seconds = used.ru_utime + used.ru_stime
        row = {"name": name[:80], "seconds": round(seconds, 2), "mb": round(peak)}
        print(json.dumps({**row, "status": status, "said": said}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
