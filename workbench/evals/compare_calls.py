"""The part of `Workbench` that is about comparisons and votes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from workbench.client.api import WorkbenchClient

if TYPE_CHECKING:
    from workbench.chat.compare import Comparison
    from workbench.chat.compare_reading import Document
    from workbench.chat.compare_run import Schedule
    from workbench.chat.compare_values import Contender, Prompt
    from workbench.evals.paired import Ties
    from workbench.evals.ranking import By, Cluster, Ranking
    from workbench.metrics import Metrics


class CompareCalls:
    """What a notebook asks about comparisons.

    Attributes:
        client: The door to the server.
    """

    client: WorkbenchClient

    if TYPE_CHECKING:

        @property
        def metrics(self) -> Metrics:
            """What was measured; the layer that has the configuration opens it."""

    def compare(
        self,
        models: str | Iterable[str | Mapping[str, Any] | Contender],
        prompts: Prompt | Iterable[Prompt] | None = None,
        *,
        system: str | None = None,
        options: Mapping[str, Any] | None = None,
        think: bool | str | None = None,
        keep_alive: float | str | None = None,
        blind: bool = False,
        order_seed: int | None = None,
        schedule: Schedule = "memory",
        swap: bool = False,
        **more_options: Any,
    ) -> Comparison:
        """Ask several models the same, each model loaded once, and return the comparison.

        Args:
            models: Names; or mappings with `model` and what is its own: `name`, `system`,
                `think`, `keep_alive`, and options of Ollama's API.
            prompts: What to ask now; `None` asks nothing yet.
            system: The system prompt of all.
            options: Options of Ollama's API for all; also by keyword.
            think: Whether or how hard to think.
            keep_alive: Seconds or a duration the models stay loaded.
            blind: Hide names, order and speed until a vote.
            order_seed: Of the order in which answers are shown blind; random unless given.
            schedule: `memory` lets models that fit together answer at the same time; `sequential`
                asks one after the other.
            swap: Consent to what would have to leave memory, where the server asks for it.
            **more_options: Laid over `options`.

        Raises:
            ModelNotFound: When a model is not installed; nothing is sent then.
            ConfigError: When an option is unknown, or two sides have one name.
        """
        from workbench.chat.compare import Comparison

        comparison = Comparison(
            self.client,
            [models] if isinstance(models, str) else models,
            system=system,
            options={**(options or {}), **more_options},
            think=think,
            keep_alive=keep_alive,
            blind=blind,
            order_seed=order_seed,
            schedule=schedule,
            swap=swap,
        )
        if prompts is not None:
            comparison.ask(prompts)
        return comparison

    def open_comparison(self, document: Document) -> Comparison:
        """Open a comparison that was kept as JSON, to read it, vote on it, or ask it again.

        Its answers and votes are those of the document; votes cast now are rows of the metrics
        under its id, and a second vote takes the place of the first as before.

        Args:
            document: The text that `comparison.to_json()` gave, or the path of a file of it.

        Raises:
            StoreError: When it cannot be read, or is no comparison.
            SchemaTooNew: When a newer version of the workbench wrote it.
        """
        from workbench.chat.compare import Comparison

        return Comparison.from_json(self.client, document)

    def rankings(
        self,
        *,
        by: By = "model",
        cluster: Cluster = "prompt",
        ties: Ties = "half",
        level: float = 0.95,
        since: Any = None,
        until: Any = None,
        voter: str | None = None,
        blind: bool | None = None,
        comparison: str | None = None,
    ) -> Ranking:
        """Rank models by the votes in the metrics: Bradley-Terry strengths with intervals.

        With fewer than 20 prompts (or voters) the intervals are too narrow, and a note below the
        table says so.

        Args:
            by: `model`, or `label`: what models are called in the comparisons.
            cluster: What is resampled for the intervals: `prompt`, `voter` or `vote`.
            ties: `half` counts one as half a win for each, `davidson` models them.
            level: Share of the intervals, 0 to 1.
            since: Beginning of the time: datetime, ISO text, `24h`, or seconds before now.
            until: End of the time, excluded.
            voter: Only the votes of one.
            blind: Only votes cast blind, or only others.
            comparison: Only votes of one comparison, by its id.
        """
        from workbench.evals.ranking import rank

        votes = self.metrics.votes(
            since=since, until=until, voter=voter, blind=blind, comparison=comparison
        )
        return rank(votes.to_dict("records"), by=by, cluster=cluster, ties=ties, level=level)
