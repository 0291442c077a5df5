"""Functions that the plans of this folder share."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pandas as pd


def read_table(path: str, limit: int = 0) -> pd.DataFrame:
    """Return a CSV file as a table; `limit` is how many rows, 0 all of them."""
    frame = pd.read_csv(path)
    return frame.head(limit) if limit else frame


def read_rows(path: str, limit: int = 0) -> list[dict[str, Any]]:
    """Return a CSV file as a list of rows, for `foreach`."""
    return read_table(path, limit).to_dict(orient="records")


def holds(answer: str, expected: str) -> bool:
    """Whether an answer has what was expected as words of its own: 15 does not hold 5."""
    return re.search(rf"(?<!\w){re.escape(expected)}(?!\w)", answer, re.IGNORECASE) is not None


def score(answers: list[dict[str, Any]]) -> pd.DataFrame:
    """Say of each answer whether it holds what was expected."""
    rows = [
        {
            "model": answer["model"],
            "topic": answer["row"]["topic"],
            "question": answer["row"]["question"],
            "expected": str(answer["row"]["expected"]),
            "answer": answer["text"],
            "correct": holds(answer["text"], str(answer["row"]["expected"])),
        }
        for answer in answers
    ]
    return pd.DataFrame(rows)


def interval(successes: int, trials: int, z: float = 1.96) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson, 1927), each end from 0 to 1."""
    if trials == 0:
        return 0.0, 1.0
    share = successes / trials
    middle = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials**2))
    half /= 1 + z * z / trials
    return max(0.0, middle - half), min(1.0, middle + half)


def accuracy(scores: pd.DataFrame) -> list[dict[str, Any]]:
    """Return for each model the share of correct answers with its interval."""
    rows = []
    for model, group in scores.groupby("model", sort=True):
        low, high = interval(int(group["correct"].sum()), len(group))
        rows.append(
            {
                "model": model,
                "answers": len(group),
                "accuracy": round(float(group["correct"].mean()), 4),
                "low": round(low, 4),
                "high": round(high, 4),
            }
        )
    return rows


def agreement(answers: list[dict[str, Any]]) -> pd.DataFrame:
    """Return for each temperature how often the most frequent answer came."""
    frame = pd.DataFrame(answers)
    rows = []
    for temperature, group in frame.groupby("temperature", sort=True):
        counts = group["text"].value_counts()
        low, high = interval(int(counts.iloc[0]), len(group))
        rows.append(
            {
                "temperature": temperature,
                "answers": len(group),
                "different": len(counts),
                "agreement": round(float(counts.iloc[0]) / len(group), 4),
                "low": round(low, 4),
                "high": round(high, 4),
            }
        )
    return pd.DataFrame(rows)


def by_station(table: pd.DataFrame) -> dict[str, Any]:
    """Return a table without gaps, the mean of each station, and what was left out."""
    whole = table.dropna().reset_index(drop=True)
    means = whole.groupby("station", as_index=False)["degrees"].mean()
    return {"whole": whole, "means": means, "left_out": len(table) - len(whole)}


def publish(text: str, outbox: str) -> str:
    """Write a text to the outbox and return its path; a second attempt writes the same file."""
    from workbench.plans import step

    place = Path(outbox)
    place.mkdir(parents=True, exist_ok=True)
    # The key is that of every attempt: who receives it can see that it is one and the same.
    path = place / f"{step.key[:16]}.txt"
    path.write_text(text + "\n", encoding="utf-8")
    return path.name
