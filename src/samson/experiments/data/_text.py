"""Text as tokens, one a character, for a network that predicts the next one."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from samson._errors import require
from samson.experiments.data._files import find, reading
from samson.experiments.data._loading import Pair
from samson.experiments.data._splits import Splits

LENGTH = 128
"""Characters in an example."""


def tiny_shakespeare(root: Path) -> Splits:
    """1.1 million characters of Shakespeare's plays, to predict the next of; the last tenth is the test.

    Reference: Karpathy 2015, https://github.com/karpathy/char-rnn.
    """
    page = "https://github.com/karpathy/char-rnn/tree/master/data/tinyshakespeare"
    folders, names = ("tinyshakespeare", "tiny-shakespeare", ""), ("input.txt", "tinyshakespeare.txt")
    return text_splits(read_text(find("tiny-shakespeare", root, folders, names, page)), LENGTH)


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, with its line ends as they are.

    Raises:
        SetupError: If it cannot be read.
    """
    with reading(path, "Give a text file in UTF-8."):
        return path.read_bytes().decode("utf-8-sig")


def text_splits(text: str, length: int = LENGTH) -> Splits:
    """A text by characters: its first 81 % train, the next 9 % validate, the last 10 % test.

    A token is the number of its character among the sorted characters of the whole text. Each part is cut up into
    blocks of `length` tokens, whose targets are the tokens one further on; what is left over at its end goes unused.

    Args:
        text: The text.
        length: Characters in an example, ≥ 1.

    Raises:
        SetupError: If a part is too short for one example.

    Example:
        >>> splits = text_splits("abcd" * 25, length=4)
        >>> splits.outputs, splits.train[0][0].tolist(), splits.train[1][0].tolist()
        (4, [0, 1, 2, 3], [1, 2, 3, 0])
    """
    number = {character: index for index, character in enumerate(sorted(set(text)))}
    tokens = torch.tensor([number[character] for character in text], dtype=torch.int64)
    last = len(text) * 9 // 10
    parts = tokens[: last * 9 // 10], tokens[last * 9 // 10 : last], tokens[last:]
    shortest = min(map(len, parts))
    mend = "Give a longer text."
    require(shortest > length, "`data`", f"a text whose parts have more than {length} characters", shortest, mend)
    train, validation, test = (_blocks(part, length) for part in parts)
    return Splits(train, validation, test, outputs=len(number), task="language")


def _blocks(tokens: Tensor, length: int) -> Pair:
    blocks = tokens.unfold(0, length + 1, length)
    return blocks[:, :-1].contiguous(), blocks[:, 1:].contiguous()
