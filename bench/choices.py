"""What searches chose to perform the workloads of a run that have candidates, on each of its devices."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench import registry
from bench.launch.process import Outcome
from bench.schema import Row
from bench.types import DeviceInfo, Item, Job, Metric

_BUDGET_S = 7.0
_FAKE_BUDGET_S = 0.02  # on the scripted clock, on which any product takes a millisecond


def budget_s(device: DeviceInfo) -> float:
    """What the search for one workload may take."""
    return _FAKE_BUDGET_S if device.kind == "fake" else _BUDGET_S


class Choices:
    """The items by kind and index of the device and by workload; at first those of an earlier attempt's rows."""

    def __init__(self, kept: Iterable[Row]) -> None:
        self._items: dict[tuple[str, int, str], Item] = {}
        for row in sorted(kept, key=lambda row: row["replicate"]):
            key = row["device"], row["device_index"], row["workload"]
            if row["candidate"] and key not in self._items:
                self._items[key] = Item(row["workload"], row["candidate"])
            elif row["candidate"] and row["candidate"] != self._items[key].candidate:
                self._items[key] = dataclasses.replace(self._items[key], runner_up=row["candidate"])

    def open(self, device: DeviceInfo, names: Sequence[str]) -> tuple[Item, ...]:
        """Those of the workloads for which a search has still to choose."""
        wanted = (name for name in names if _has_candidates(name))
        return tuple(Item(name) for name in wanted if (device.kind, device.index, name) not in self._items)

    def item(self, device: DeviceInfo, name: str, replicate: int) -> Item:
        """What performs a workload in a pass: the two best of a search take turns, for what tells them apart is less
        than what two processes of one differ by."""
        found = self._items.get((device.kind, device.index, name), Item(name))
        return dataclasses.replace(found, candidate=found.runner_up) if replicate % 2 and found.runner_up else found

    def note(self, outcome: Outcome) -> list[Job]:
        """Keep what a search found, or that it died over an item; give what is left of its job, if anything."""
        outcome.raise_fatal()
        job = outcome.job
        for event in outcome.events:
            name = job.items[event["item"]].workload if "item" in event else ""
            if event["event"] == "winner":
                self._choose(job, Item(name, event["candidate"], event["runner_up"], _metrics(event)))
            elif event["event"] == "no-winner":
                self._choose(job, Item(name, status=event["status"], reason=event["reason"]))
        if outcome.death is None:
            return []
        status, reason = outcome.death
        for item in job.items[outcome.finished : outcome.lost]:
            self._choose(job, Item(item.workload, status=status, reason=f"search: {reason}"))
        return outcome.rest

    def _choose(self, job: Job, item: Item) -> None:
        self._items[job.device.kind, job.device.index, item.workload] = item


def _has_candidates(name: str) -> bool:
    workload = registry.resolve(name)
    return bool(workload.kernel.candidates(workload.params))


def _metrics(event: Mapping[str, Any]) -> tuple[Metric, ...]:
    return (
        Metric("search_rate", event["rate"], "1/s", "higher"),
        Metric("search_tried", event["tried"], "1"),
        Metric("search_s", event["spent_s"], "s"),
        Metric("search_budget_s", event["budget_s"], "s"),
    )
