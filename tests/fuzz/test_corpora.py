"""Every fuzz target over its corpus and over some mutations of it; long runs: see README.md beside this."""

import importlib
import random
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
CORPUS = HERE.parent / "data" / "corpus"
OFFERS = HERE.parent / "data" / "sdp"  # recorded offers are the corpus of the target named sdp
TARGETS = sorted(path.stem for path in HERE.glob("*.py") if not path.stem.startswith("test_"))
MUTATIONS = 300  # bounded by count, so that a slow machine runs the same inputs
SEED = 20261124


def fuzz_one_of(target: str) -> Callable[[bytes], None]:
    function: Callable[[bytes], None] = importlib.import_module(f"tests.fuzz.{target}").fuzz_one
    return function


def seeds_of(target: str) -> list[bytes]:
    folders = [CORPUS / target] + ([OFFERS] if target == "sdp" else [])
    return [path.read_bytes() for folder in folders for path in sorted(folder.glob("*")) if path.is_file()]


def mutate(rng: random.Random, seeds: list[bytes]) -> bytes:
    """Return a seed with a few of the changes that fuzzers make."""
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(7):
            case 0 if data:
                data[at % len(data)] ^= 1 << rng.randrange(8)
            case 1 if data:
                data[at % len(data)] = rng.choice([0, 1, 127, 128, 255, rng.randrange(256)])
            case 2:
                del data[at:]
            case 3:
                del data[at : at + rng.randint(1, 8)]
            case 4:
                data[at:at] = rng.randbytes(rng.randint(1, 8))
            case 5:
                other = rng.choice(seeds)
                start = rng.randrange(len(other) + 1)
                data[at:at] = other[start : start + rng.randint(1, 64)]
            case _:
                data[at : at + 2] = rng.choice([0, 1, 0x7FFF, 0x8000, 0xFFFF]).to_bytes(2, "big")
    return bytes(data)


@pytest.mark.parametrize("target", TARGETS)
def test_the_invariant_holds_for_the_corpus_and_for_what_grows_from_it(target: str) -> None:
    fuzz_one = fuzz_one_of(target)
    seeds = seeds_of(target) or [b""]
    rng = random.Random(f"{SEED}-{target}")
    print(f"seed {SEED}-{target}, {len(seeds)} files")
    for number in range(len(seeds) + MUTATIONS):
        data = seeds[number] if number < len(seeds) else mutate(rng, seeds)
        try:
            fuzz_one(data)
        except BaseException:
            print(f"input {number}, {len(data)} bytes: {data.hex()}")
            raise


@pytest.mark.parametrize("target", TARGETS)
def test_the_source_names_its_invariant(target: str) -> None:
    assert "# Invariant: " in (HERE / f"{target}.py").read_text()


@pytest.mark.parametrize("target", TARGETS)
def test_the_target_has_a_corpus(target: str) -> None:
    assert seeds_of(target)
