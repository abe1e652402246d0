"""The page of chips: a section for every noise, the pictures it names, and figures that the library gives again."""

import re
from pathlib import Path

import pytest

import samson.noise
from samson.noise import CMO, FALCONE, NOISES, PCM, PRESETS, Quantize, ReRAM, WeightNoise

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "chips.md").read_text(encoding="utf-8")
SECTIONS = PAGE.split("\n## ")[1:]
"""Without the introduction, whose table lists every preset by itself."""
PICTURES = dict(re.findall(r"!\[(.+?)\]\(chips/(.+?)\.svg\)", PAGE))
CLASSES = [
    name
    for name in samson.noise.__all__
    if isinstance(thing := getattr(samson.noise, name), type) and issubclass(thing, WeightNoise)
]
DAY = 86_400.0


def without_a_section(names: list[str]) -> list[str]:
    """Names that no section writes as code, alone or with arguments."""
    return [name for name in names if not any(re.search(rf"`{re.escape(name)}[`(]", part) for part in SECTIONS)]


def test_every_noise_has_a_section() -> None:
    assert not without_a_section([*NOISES, *PRESETS, *CLASSES, "Mapping", "Periphery", "STANDARD_HWA"])
    assert without_a_section(["gaussian", "cosmic-rays", "gauss"]) == ["cosmic-rays", "gauss"]  # the check can fail


def test_every_family_has_a_picture_and_a_line_of_code() -> None:
    families = [part for part in SECTIONS if "in the catalogue:" in part]
    assert len(families) == 10
    for part in families:
        assert re.search(r"!\[.+?\]\(chips/.+?\.svg\)", part), part.splitlines()[0]
        assert "```python\n" in part


def test_every_picture_is_there_described_and_small() -> None:
    files = {path.stem: path for path in (ROOT / "docs" / "chips").glob("*.svg")}
    assert set(PICTURES.values()) == set(files)
    for alt, name in PICTURES.items():
        text = files[name].read_text(encoding="utf-8")
        assert len(alt) > 40
        assert text.startswith("<?xml")
        assert text.rstrip().endswith("</svg>")
        assert len(text.encode()) < 150_000
        assert "<dc:date>" not in text


def test_constants_are_printed_as_they_are() -> None:
    for name, constants in zip(("0.2 %", "2 %"), FALCONE.programming_us, strict=True):
        row = re.search(rf"\| a, b at {re.escape(name)} \| (.+) µS, (.+) \|", PAGE)
        assert row is not None
        assert tuple(map(float, row.groups())) == constants


@pytest.mark.needs("matplotlib")
def test_a_picture_is_drawn_the_same_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import chips_page
    from benchmarks.chips import style

    assert set(chips_page.PICTURES) == set(PICTURES.values())
    picture = chips_page.PICTURES["mapping-error"]
    assert style.svg(picture) == style.svg(picture)
    monkeypatch.setitem(style.STYLE, "svg.hashsalt", None)  # the check can fail: names drawn at random differ
    assert style.svg(picture) != style.svg(picture)


@pytest.mark.needs("matplotlib")
def test_the_page_is_its_template_with_figures_of_the_library() -> None:
    from benchmarks.chips.quoted import stuck_high
    from benchmarks.chips.samples import error_size

    template = (ROOT / "benchmarks" / "chips" / "page.md").read_text(encoding="utf-8")
    seen: set[str] = set()

    def figure(match: re.Match[str]) -> str:
        name = match[1]
        first, _ = name not in seen, seen.add(name)
        return f"(?P<{name}>.+?)" if first else f"(?P={name})"

    pattern = re.sub(r"\\\$(\w+)", figure, re.escape(template))
    found = re.fullmatch(pattern, PAGE, flags=re.DOTALL)
    assert found
    for name, noise, time_s in (
        ("int4", Quantize(4), None),
        ("reram_day", ReRAM(), DAY),
        ("cmo_day", CMO(), DAY),
        ("pcm_day_global", PCM(compensation="global"), DAY),
    ):
        assert float(found[name].removesuffix(" %")) == pytest.approx(100 * error_size(noise, time_s), rel=0.02)
    assert float(found["stuck_day"].removesuffix(" %")) == pytest.approx(100 * stuck_high(DAY), rel=0.02)
    assert float(found["pcm_day"].removesuffix(" %")) != pytest.approx(float(found["pcm_day_global"][:-2]), rel=0.02)
