"""What a chat template may do, and that it cannot misbehave."""

import pytest

from mlx_gemma4.chat import meter
from mlx_gemma4.chat.template import ChatTemplate
from mlx_gemma4.errors import ChatError

HI = [{"role": "user", "content": "Hi"}]


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__ }}",
        "{{ ''['__class__'] }}",
        "{{ ''|attr('__class__') }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ lipsum.__globals__['os'].popen('id').read() }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ raise_exception.__globals__ }}",
        "{{ self._TemplateReference__context }}",
        "{{ '{0.__class__}'.format('') }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update(role='x') }}",
        "{% set ns = namespace() %}{% set ns.__class__ = 1 %}",
        "{% include 'file' %}",
        "{% import 'os' as os %}",
        "{{ open('/etc/passwd') }}",
        "{% for i in range(10**9) %}{% endfor %}",
        "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}"
        "{% endfor %}",
        "{{ 'a' * 10**9 }}",
        "{% set ns = namespace(x='a') %}{% for i in range(40) %}"
        "{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "{% set ns = namespace(x='a') %}{% for i in range(40) %}"
        "{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% set ns = namespace(x='a') %}{% for i in range(40) %}"
        "{% set y %}{{ ns.x }}{{ ns.x }}{% endset %}{% set ns.x = y %}{% endfor %}",
        "{% set x = 'a' * 1000000 %}{% for i in range(1000) %}{{ x }}{% endfor %}",
        "{{ '%0999999999d' % 1 }}",
        "{{ '%.999999999f' % 1 }}",
        "{{ '%*d' % (999999999, 1) }}",
        "{{ ('%s' * 100000) % (('a' * 1000000),) }}",
        "{{ '%0999999999d'|format(1) }}",
        "{{ '{:0999999999d}'.format(1) }}",
        "{{ '{:{w}}'.format(1, w=999999999) }}",
        "{{ 'a'|center(999999999) }}",
        "{{ 'a'.center(999999999) }}",
        "{{ 'a'|map('center', 999999999)|list }}",
        "{{ 'a'.ljust(width=999999999) if false else 'a'.ljust(999999999) }}",
        "{{ ('\\n' * 1000000)|indent(1000000) }}",
        "{{ [1]|tojson(indent=999999999) }}",
        "{{ [1]|batch(999999999, 0)|list }}",
        "{{ ('a' * 100000)|replace('a', 'a' * 100000) }}",
        "{{ ('a' * 100000).replace('a', 'a' * 100000) }}",
        "{{ (['a' * 1000000] * 1000)|join }}",
        "{{ ('a' * 1000000).join(['a'] * 1000) }}",
        "{{ [0] * 10**9 }}",
        "{{ (2 ** 10000000) % 7 }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{{ 1 / 0 }}",
        "{{ none.x.y }}",
        "{{ 'a' + 1 }}",
        "{{ raise_exception('no') }}",
    ],
)
def test_a_template_cannot_misbehave(source: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(meter, "SECONDS", 0.5)
    with pytest.raises(ChatError, match="The chat template refused"):
        ChatTemplate(source, "<bos>").render(HI)


def test_what_templates_may_use():
    def render(source: str) -> str:
        return ChatTemplate(source, "<bos>").render(HI).text

    assert render('{{ {"a": "<é>"} | tojson }}') == '{"a": "<é>"}'
    assert render("{{ [1]|tojson(indent=1) }}") == "[\n 1\n]"
    assert render("{% for i in [1, 2] %}{{ i }}{% break %}{% endfor %}") == "1"
    assert render("{% generation %}x{{ 1 }}{% endgeneration %}") == "x1"
    assert len(render("{{ strftime_now('%Y') }}")) == 4
    assert render("{% if true %}\n  a\n  {% endif %}\nb") == "  a\nb"
    assert render("{{ 1 ~ 'a' ~ [2] }}{{ [1] + [2] }}{{ 5 % 3 }}") == "1a[2][1, 2]2"
    assert render("{{ '%s-%03d' % ('a', 7) }}{{ '%s'|format(1) }}") == "a-0071"
    assert render("{{ '{:>3}{x}'.format(1, x=2) }}") == "  12"
    assert render("{{ 'a'|center(3) }}{{ 'b'.rjust(3) }}") == " a   b"
    assert render("{{ 'aXX'|replace('X', 'yy', 1) }}") == "ayyX"
    assert render("{{ 'aXX'.replace('X', 'yy') }}") == "ayyyy"
    assert render("{{ [1, 'a']|join('-') }}{{ '+'.join(['b', 'c']) }}") == "1-ab+c"
    assert render("{{ messages|join(',', attribute='role') }}") == "user"
    assert render("{{ 'a\nb'|indent(2) }}") == "a\n  b"
    assert render("{{ 'ab' * 2 }}{{ 2 * 3 }}{{ 2 ** 3 }}") == "abab68"


def test_namespaces_hold_only_what_could_be_reached():
    def render(source: str) -> str:
        setup = "{% set ns = namespace(x=1, _y=2, cut='{0.__class__}'.format) %}"
        return ChatTemplate(setup + source, "<bos>").render(HI).text

    assert render("{{ ns.x }}{{ ns['x'] }}{{ ns.absent is defined }}") == "11False"
    for source in ("{{ ns._y }}", "{{ ns.cut('') }}", "{{ ns.absent.x }}"):
        with pytest.raises(ChatError, match="The chat template refused"):
            render(source)
