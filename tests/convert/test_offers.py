"""Sizes that are offered with what they lose, and which of them is taken."""

from pathlib import Path

import jobs
import pytest
import trained

from mlx_gemma4.convert.choice import choice_key, chosen, keep, kept
from mlx_gemma4.convert.errors import RecipeError
from mlx_gemma4.convert.layerwise import Layerwise
from mlx_gemma4.convert.mixed import ladder, mix
from mlx_gemma4.convert.offers import PIECE, Measuring, portions
from mlx_gemma4.convert.plan import TensorPlan
from mlx_gemma4.convert.recipes import override
from mlx_gemma4.convert.sensitivity import versions
from mlx_gemma4.convert.source import local
from mlx_gemma4.convert.survey import Wishes
from mlx_gemma4.errors import DataError

SEQUENCES = [[2, *(7 + 13 * i % 50 for i in range(40))]]


def measuring(source: Path, wishes: Wishes) -> Measuring:
    return Measuring(local(source), wishes, "org/source", SEQUENCES)


@pytest.mark.slow
def test_the_best_that_fits_is_taken(tmp_path: Path) -> None:
    source = jobs.source(tmp_path)
    target = round(1.1 * jobs.plan(source).out_bytes)
    it = measuring(source, Wishes("mixed", (), target))
    harm = it.harm()
    offers = it.offers(it.plans(harm))
    sizes = [offer.plan.out_bytes for offer in offers]
    assert sizes == sorted(sizes) and sizes[0] < target < sizes[-1]
    best = it.best(offers)
    fit = [offer for offer in offers if offer.plan.out_bytes <= target]
    assert best in fit
    assert best.fidelity.kl_mean == min(offer.fidelity.kl_mean for offer in fit)
    assert "4bit" in {offer.plan.recipe for offer in offers}
    it.model.close()


def test_what_hurts_most_gets_most_bits(tmp_path: Path) -> None:
    """By a harm in which one matrix counts more than all others together."""
    tensors = jobs.plan(jobs.source(tmp_path)).tensors
    loved = "language_model.model.layers.1.mlp.up_proj"

    def harm(tensor: TensorPlan) -> float:
        assert tensor.packing
        weight = 1e9 if tensor.modules[0] == loved else 1.0
        return weight * tensor.params * 4.0**-tensor.packing.bits

    smallest = sum(min(r.out_bytes for r in ladder(t) or [t]) for t in tensors)
    bits = {
        tensor.modules[0]: tensor.packing.bits
        for tensor in mix(tensors, round(1.01 * smallest), harm)
        if tensor.packing
    }
    assert bits.pop(loved) >= 5
    assert {n for name, n in bits.items() if ".mlp." in name} == {2}


def test_each_matrix_is_packed_in_one_probe(tmp_path: Path) -> None:
    plan = jobs.plan(jobs.source(tmp_path))
    names = [name for version in versions(plan.tensors) for name in version]
    assert len(names) == len(set(names)) > 20
    assert not [name for name in names if "router" in name or "norm" in name]


@pytest.mark.slow
def test_a_recipe_by_name_is_taken_whatever_it_loses(tmp_path: Path) -> None:
    source = jobs.source(tmp_path)
    it = measuring(source, Wishes("tiny"))
    offers = it.offers(it.plans())
    assert [offer.plan.recipe for offer in offers] == ["tiny", "4bit"]
    assert it.best(offers) is offers[0]
    assert offers[0].fidelity.kl_mean > offers[1].fidelity.kl_mean
    it.model.close()


@pytest.mark.slow
def test_a_size_is_kept_with_overrides(tmp_path: Path) -> None:
    """What they leave of it is for all other matrices."""
    source = jobs.source(tmp_path)
    wide = (override("*_proj=8:64"),)
    usual = jobs.plan(source).out_bytes
    with pytest.raises(RecipeError, match="with these overrides; the smallest takes"):
        jobs.plan(source, "mixed", "*_proj=8:64", target=usual)
    target = round(1.3 * usual)
    it = measuring(source, Wishes("mixed", wide, target))
    it.model.close()
    assert any(0.97 * target < p.out_bytes <= target for p in it.plans())


def test_an_override_may_take_more_than_any_mix(tmp_path: Path) -> None:
    source = jobs.source(tmp_path)
    eight = jobs.plan(source, "8bit").out_bytes
    wishes = Wishes("mixed", (override("*.down_proj=keep"),), eight + 1)
    it = measuring(source, wishes)
    it.model.close()
    assert (
        max(p.out_bytes for p in it.plans() if p.out_bytes <= eight + 1) > 0.97 * eight
    )


@pytest.mark.slow
def test_a_choice_is_kept_for_the_same_wishes(tmp_path: Path) -> None:
    source, out = jobs.source(tmp_path / "hub"), tmp_path / "out"
    it = measuring(source, Wishes("tiny"))
    offers = it.offers(it.plans())
    it.model.close()
    key = choice_key(local(source), it.wishes, SEQUENCES)
    made = chosen(key, offers[0], offers)
    usual = jobs.plan(source)
    assert kept(out, key, usual) is None
    keep(made, out)
    again = kept(out, key, usual)
    assert again and again.record == made.record and again.fidelity == made.fidelity
    packings = [(t.packing, t.grid) for t in again.plan.tensors]
    assert packings == [(t.packing, t.grid) for t in offers[0].plan.tensors]
    other = choice_key(local(source), Wishes("mixed", (), 5), SEQUENCES)
    assert kept(out, other, usual) is None
    (out.with_name("out.partial") / "choice.json").write_text("{")
    assert kept(out, key, usual) is None


def test_portions_share_no_text() -> None:
    body = list(range(10, 10 + 3 * PIECE))
    probed, compared = portions([[2, *body]])
    assert [len(piece) for piece in (*probed, *compared)] == [PIECE + 1] * 3
    seen = [token for piece in (*probed, *compared) for token in piece[1:]]
    assert sorted(seen) == body
    assert portions([[2, 5, 6, 7, 8]]) == ([[2, 7, 8]], [[2, 5, 6]])
    many = [[2, *range(10)]] * 1000
    assert all(len(half) < 200 for half in portions(many))
    with pytest.raises(DataError, match="too little text"):
        portions([[2, 5]])


@pytest.mark.slow
def test_a_trained_grid_is_a_rung_of_its_own(tmp_path: Path) -> None:
    trained.write(tmp_path / "plain", tmp_path / "trained", "q4_0")
    name = "google/gemma-4-E2B-it-qat-q4_0-unquantized"
    usual = jobs.plan(tmp_path / "trained", name=name)
    on_grid = {t.name for t in usual.tensors if t.grid}
    target = round(1.3 * usual.out_bytes)
    plan = jobs.plan(tmp_path / "trained", "mixed", target=target, name=name)
    assert on_grid and {t.name for t in plan.tensors if t.grid} >= on_grid
    assert not [text for text in plan.warnings if "does not keep" in text]
    model = Layerwise(local(tmp_path / "trained"), plan.tensors)
    text = Measuring(
        local(tmp_path / "trained"), Wishes("4bit"), name, SEQUENCES
    ).compared
    exact = {t.name: t for t in plan.tensors if t.grid}
    (found,) = model.compare([exact], text)
    assert found.kl_mean < 1e-6
    model.close()
