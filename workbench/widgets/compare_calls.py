"""The part of `Workbench` that shows comparisons."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from weakref import ReferenceType, WeakKeyDictionary, ref

from workbench.client.api import WorkbenchClient
from workbench.config import Config
from workbench.errors import ConfigError
from workbench.messages import GenerateConfig

if TYPE_CHECKING:
    from workbench.chat.compare import Comparison
    from workbench.chat.compare_run import Schedule
    from workbench.chat.compare_values import Contender
    from workbench.evals.ranking import Ranking
    from workbench.widgets.compare import ComparePanel


class Owner(Protocol):
    """What a panel needs of the `Workbench` its client belongs to."""

    client: WorkbenchClient
    config: Config

    def rankings(self) -> Ranking:
        """Rank models by the votes in the metrics."""
        ...


class ComparePanelCalls:
    """What a notebook asks to be shown of comparisons.

    Attributes:
        client: The door to the server.
        config: The client's configuration.
    """

    client: WorkbenchClient
    config: Config

    if TYPE_CHECKING:

        def rankings(self) -> Ranking:
            """Rank models by the votes in the metrics."""

    def compare_panel(
        self,
        models: str | Comparison | Iterable[str | Mapping[str, Any] | Contender] = (),
        *,
        system: str | None = None,
        options: Mapping[str, Any] | None = None,
        think: bool | str | None = None,
        blind: bool = False,
        order_seed: int | None = None,
        schedule: Schedule = "memory",
        voter: str | None = None,
        **more_options: Any,
    ) -> ComparePanel:
        """Show in the notebook what several models answer, side by side, with votes and a ranking.

        Args:
            models: As of `compare`, or a comparison, which has its own settings; without any, two
                models are proposed.
            system: The system prompt of all.
            options: Options of Ollama's API for all; also by keyword.
            think: Whether or how hard to think.
            blind: Hide names, order and speed until a vote.
            order_seed: Of the order in which answers are shown blind; random unless given.
            schedule: `memory` lets models that fit together answer at the same time; `sequential`
                asks one after the other.
            voter: Who votes; the user of this machine unless given.
            **more_options: Laid over `options`.

        Raises:
            ConfigError: When an option is unknown, two sides have one name, or a comparison is
                given other settings.
        """
        from workbench.chat.compare import Comparison
        from workbench.chat.compare_values import contenders
        from workbench.widgets.compare import ComparePanel

        if isinstance(models, Comparison):
            given = (system, options, more_options, think, blind, voter)
            if any(given) or order_seed is not None or schedule != "memory":
                raise ConfigError(
                    "A comparison has its own settings.",
                    key="models",
                    hint="Give the models' names in its place, or the comparison alone.",
                )
            return comparison_panel_of(models)
        config = GenerateConfig(options={**(options or {}), **more_options}, think=think)
        listed = [models] if isinstance(models, str) else models
        return ComparePanel(
            self.client,
            contenders(listed, system=system, config=config),
            blind=blind,
            schedule=schedule,
            order_seed=order_seed,
            voter=voter,
            rankings=self.rankings,
            data_dir=Path(self.config.data_dir),
        )


def own(workbench: Owner) -> None:
    """Let panels of bare comparisons find the metrics and presets of their `Workbench`."""
    _OWNERS[workbench.client] = ref(workbench)


def comparison_panel_of(comparison: Comparison) -> ComparePanel:
    """Return the panel of a comparison; there is one however often it is displayed."""
    from workbench.widgets.compare import ComparePanel

    panel = _PANELS.get(comparison)
    if panel is None:
        found = _OWNERS.get(comparison.client)
        owner = None if found is None else found()
        panel = _PANELS[comparison] = ComparePanel(
            comparison.client,
            comparison=comparison,
            rankings=None if owner is None else owner.rankings,
            data_dir=None if owner is None else Path(owner.config.data_dir),
        )
    return panel


_OWNERS: WeakKeyDictionary[WorkbenchClient, ReferenceType[Owner]] = WeakKeyDictionary()
_PANELS: WeakKeyDictionary[Comparison, ComparePanel] = WeakKeyDictionary()
