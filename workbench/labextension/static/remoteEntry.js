// The JupyterLab side of the workbench.  It has no dependency of its own, so it is no bundle: this
// file is the module federation container that JupyterLab asks for, written by hand.
// What it needs of JupyterLab comes from the share scope.
(() => {
  "use strict";

  const NAME = "local-model-workbench";
  const CHAT_MIME = "application/vnd.workbench.chat+json";
  const MODELS_MIME = "application/vnd.workbench.models+json";
  const DASHBOARD_MIME = "application/vnd.workbench.dashboard+json";
  const RUNS_MIME = "application/vnd.workbench.runs+json";
  const VIEW_MIME = "application/vnd.jupyter.widget-view+json";
  const CHAT_NOTE = "A saved conversation. Run this cell for a live chat.";
  const KIND_NOTES = {
    dialogue: "A saved dialogue. Run this cell for a live panel.",
    comparison: "A saved comparison. Run this cell for a live panel.",
  };
  const NOTES = {
    [DASHBOARD_MIME]: "The metrics when the notebook was saved. Run this cell for a live dashboard.",
    [MODELS_MIME]: "The models when the notebook was saved. Run this cell for a live panel.",
    [RUNS_MIME]: "The runs when the notebook was saved. Run this cell for a live panel.",
  };
  const BADGE = "workbench-unseen";
  const FIRST_CELL = "import workbench\n\nwb = workbench.connect()\nwb.chat_panel()";

  // JupyterLab's sanitiser takes the style out of saved transcripts, and leaves their classes.
  const TRANSCRIPT_STYLE = `
.workbench-chat-output .wb-static { max-width: 48rem; margin: 4px 0; padding: 12px 20px 4px;
  border: 1px solid var(--jp-border-color2); border-radius: 12px; line-height: 1.55; }
.workbench-chat-output .wb-static .wb-turn { margin: 0 0 20px; }
.workbench-chat-output .wb-static .wb-user { width: fit-content; max-width: 80%; margin-left: auto;
  padding: 6px 14px; border-radius: 14px 14px 4px 14px;
  background: color-mix(in srgb, var(--jp-brand-color1) 14%, transparent); }
.workbench-chat-output .wb-static .wb-user .wb-who { display: none; }
.workbench-chat-output .wb-static .wb-who { margin-bottom: 4px; font-weight: 600; font-size: 0.9em;
  color: var(--jp-ui-font-color2); }
.workbench-chat-output .wb-static .wb-turn p:last-child { margin-bottom: 0; }
.workbench-chat-output .wb-static .wb-turn pre { margin: 8px 0; padding: 10px 14px; overflow-x: auto;
  border-radius: 8px; background: var(--jp-layout-color2); white-space: pre-wrap; }
.workbench-chat-output .wb-static .wb-turn pre code { padding: 0; background: none; }
.workbench-chat-output .wb-static .wb-turn table { margin: 8px 0; }
.workbench-chat-output .wb-static :is(th, td) { text-align: start; }
.workbench-chat-output .wb-static details { margin: 0 0 8px; }
.workbench-chat-output .wb-static .wb-turn summary { cursor: pointer; color: var(--jp-ui-font-color2); }
.workbench-chat-output .wb-static .wb-end { margin-top: 6px; color: var(--jp-error-color1); }
.lm-DockPanel-tabBar .lm-TabBar-tab[data-workbench-unseen]::before { content: attr(data-workbench-unseen);
  position: static; order: 1; flex: none; align-self: center; box-sizing: border-box;
  min-width: 16px; width: auto; height: 16px; margin: 0 4px 0 2px; padding: 0 4px;
  border-radius: 8px; background: var(--jp-brand-color1); color: var(--jp-ui-inverse-font-color0);
  font-size: 11px; font-weight: 600; line-height: 16px; text-align: center; }
.lm-DockPanel-tabBar .lm-TabBar-tab[data-workbench-unseen] .lm-TabBar-tabCloseIcon { order: 2; }
.workbench-chat-note { margin: 6px 0 0; font-size: 0.85em; color: var(--jp-ui-font-color2); }`;

  /** @type {Record<string, Record<string, {get: () => Promise<() => any>}>>} */
  let scope = {};

  /**
   * Load a module that JupyterLab shares.
   * @param {string} name
   * @returns {Promise<any>}
   */
  async function shared(name) {
    const versions = Object.values(scope[name] ?? {});
    if (versions.length === 0) throw new Error(`JupyterLab does not share ${name}`);
    return (await versions[0].get())();
  }

  /** Load everything, and return the plugin. */
  async function makePlugin() {
    const [notebook, launcher, rendermime, services, widgets] = await Promise.all([
      shared("@jupyterlab/notebook"),
      shared("@jupyterlab/launcher"),
      shared("@jupyterlab/rendermime"),
      shared("@jupyterlab/services"),
      shared("@lumino/widgets"),
    ]);
    const ChatRenderer = makeRenderer(rendermime, widgets);
    return {
      id: `${NAME}:chat`,
      autoStart: true,
      requires: [notebook.INotebookTracker],
      optional: [launcher.ILauncher],
      activate: (app, tracker, tiles) => {
        const adopt = (panel) => {
          addRenderer(panel, ChatRenderer);
          tellEnd(panel);
          openChat(panel, notebook.NotebookActions).catch((error) => console.warn(NAME, error));
        };
        tracker.forEach(adopt);
        tracker.widgetAdded.connect((_, panel) => adopt(panel));
        listen(tracker, notebook.NotebookActions, services.KernelMessage);
        listenForRuns(app, tracker);
        addCommand(app, tiles);
        addStyle();
        // Tells a view that it can insert cells and reach the control channel.
        window.workbenchLab = { version: 1 };
      },
    };
  }

  /** Show our mime types before the bare widget view, which knows no saved copy. */
  function addRenderer(panel, ChatRenderer) {
    panel.content.rendermime.addFactory(
      {
        safe: true,
        mimeTypes: [CHAT_MIME, MODELS_MIME, DASHBOARD_MIME, RUNS_MIME],
        createRenderer: () => new ChatRenderer(panel),
      },
      -20,
    );
  }

  /**
   * Run the chat of the first notebook, so that it opens ready to type.
   *
   * Nothing else is ever run: only where `workbench lab` told the page the name of its notebook, only
   * a cell that is word for word our own, and only when it has not been run before.
   */
  async function openChat(panel, NotebookActions) {
    const first = pageConfig().workbenchFirst;
    if (!first || panel.context.path !== first) return;
    await panel.context.ready;
    await panel.sessionContext.ready;
    const { content, sessionContext } = panel;
    const index = content.widgets.findIndex(({ model }) => model.sharedModel.source === FIRST_CELL);
    const cell = content.widgets[index];
    if (!cell || cell.model.type !== "code") return;
    if (cell.model.executionCount !== null || cell.model.outputs.length > 0) return;
    content.activeCellIndex = index;
    content.deselectAll();
    await NotebookActions.run(content, sessionContext);
    const end = performance.now() + 20000;
    const focus = () => {
      const field = cell.node.querySelector(".wb-root:not(.wb-waiting) textarea.wb-input");
      if (field) {
        field.closest(".wb-root").scrollIntoView({ block: "nearest" });
        field.focus({ preventScroll: true });
      } else if (performance.now() < end) setTimeout(focus, 100);
    };
    focus();
  }

  function pageConfig() {
    return JSON.parse(document.getElementById("jupyter-config-data")?.textContent ?? "{}");
  }

  /** Tell the views of a notebook when their kernel has ended, however it did. */
  function tellEnd(panel) {
    const context = panel.sessionContext;
    let kernel = null;
    const tell = () => {
      for (const view of panel.node.querySelectorAll(".wb-root"))
        view.dispatchEvent(new CustomEvent("workbench:gone"));
    };
    context.statusChanged.connect((_, status) => {
      if (["restarting", "autorestarting", "terminating", "dead"].includes(status)) tell();
    });
    context.kernelChanged.connect((_, { newValue }) => {
      if (kernel && newValue?.id !== kernel) tell();
      kernel = newValue?.id ?? null;
    });
  }

  function makeRenderer({ MimeModel }, { Widget, PanelLayout }) {
    return class ChatRenderer extends Widget {
      constructor(panel) {
        super();
        this._panel = panel;
        this._live = false;
        this._model = null;
        this.layout = new PanelLayout();
        this.addClass("workbench-chat-output");
        this.node.addEventListener("workbench:keep", (event) => this._keep(event));
      }

      /** Put the transcript of a live view into the output, so that the next save keeps it. */
      _keep(event) {
        if (!this._live || !this._model) return;
        const data = { ...this._model.data };
        for (const mime of ["text/html", "text/plain"]) data[mime] = String(event.detail[mime] ?? "");
        this._model.setData({ data });
        event.preventDefault();
      }

      /** Draw the live view where its model exists, else the saved transcript. */
      async renderModel(model) {
        this._model = model;
        // An update of the saved transcript must not rebuild a view somebody types in.
        if (this._live) return;
        const id = model.data[VIEW_MIME]?.model_id;
        this._live = Boolean(id) && (await isAlive(this._panel, id));
        const registry = this._panel.content.rendermime;
        const inner = registry.createRenderer(this._live ? VIEW_MIME : "text/html");
        for (const old of [...this.layout.widgets]) old.dispose();
        this.layout.addWidget(inner);
        if (!this._live) this.layout.addWidget(new Widget({ node: note(model.data) }));
        // A saved notebook may come from anybody: JupyterLab sanitises what is not trusted.
        const data = { "text/html": String(model.data["text/html"] ?? "") };
        await inner.renderModel(this._live ? model : new MimeModel({ data, trusted: false }));
      }
    };
  }

  /** Say below a saved transcript or table what it is. */
  function note(data) {
    const line = document.createElement("p");
    line.className = "workbench-chat-note";
    const known = Object.keys(NOTES).find((mime) => mime in data);
    const saved = data[CHAT_MIME] ?? {};
    const kind = ["dialogue", "comparison"].find((name) => name in saved);
    line.textContent = NOTES[known] ?? KIND_NOTES[kind] ?? CHAT_NOTE;
    return line;
  }

  function addStyle() {
    const style = document.createElement("style");
    style.textContent = TRANSCRIPT_STYLE;
    document.head.append(style);
  }

  /** Whether the kernel of a notebook holds a widget model. */
  async function isAlive(panel, modelId) {
    try {
      await panel.sessionContext.ready;
      const kernel = panel.sessionContext.session?.kernel;
      if (!kernel) return false;
      const reply = await kernel.requestCommInfo({ target_name: "jupyter.widget" });
      return reply.content.status === "ok" && modelId in reply.content.comms;
    } catch {
      return false;
    }
  }

  /** Do what views ask for by events on the window. */
  function listen(tracker, NotebookActions, KernelMessage) {
    window.addEventListener("workbench:insert", (event) => {
      const panel = panelOf(tracker, event.target);
      if (!panel) return;
      const { text, kind } = event.detail;
      const at = panel.content.widgets.findIndex((cell) => cell.node.contains(event.target));
      if (at >= 0) panel.content.activeCellIndex = at;
      NotebookActions.insertBelow(panel.content);
      NotebookActions.changeCellType(panel.content, kind === "markdown" ? "markdown" : "code");
      panel.content.activeCell.model.sharedModel.setSource(String(text));
      event.preventDefault();
    });
    window.addEventListener("workbench:stop", (event) => {
      const kernel = panelOf(tracker, event.target)?.sessionContext.session?.kernel;
      if (!kernel) return;
      const message = KernelMessage.createMessage({
        channel: "control",
        msgType: "comm_msg",
        session: kernel.clientId,
        username: kernel.username,
        content: {
          comm_id: String(event.detail.comm_id),
          data: { method: "custom", content: { t: "stop" } },
        },
      });
      kernel.sendControlMessage(message, false, true);
    });
  }

  /**
   * Count on its tab, and in front of the page's title, what nobody has seen yet.
   * @returns {(node: unknown) => void} Counts one more for the tab a node stands in.
   */
  function makeBadges(app) {
    /** @type {Map<any, number>} */
    const unseen = new Map();
    const draw = (widget) => {
      const { [BADGE]: _, ...dataset } = widget.title.dataset;
      const count = unseen.get(widget);
      widget.title.dataset = count ? { ...dataset, [BADGE]: String(count) } : dataset;
      drawTitle();
    };
    const drawTitle = () => {
      const total = [...unseen.values()].reduce((sum, one) => sum + one, 0);
      const bare = document.title.replace(/^\(\d+\) /, "");
      const title = total ? `(${total}) ${bare}` : bare;
      if (document.title !== title) document.title = title;
    };
    // JupyterLab writes the title anew whenever a tab changes.
    new MutationObserver(drawTitle).observe(document.head, { childList: true, characterData: true, subtree: true });
    const forget = (widget) => {
      if (widget && unseen.delete(widget)) draw(widget);
    };
    const look = () => document.hidden || forget(app.shell.currentWidget);
    app.shell.currentChanged?.connect(look);
    document.addEventListener("visibilitychange", look);
    return (node) => {
      const widget = [...app.shell.widgets("main")].find((each) => each.node.contains(node));
      if (!widget || (widget.isVisible && !document.hidden)) return;
      if (!unseen.has(widget)) widget.disposed.connect(forget);
      unseen.set(widget, (unseen.get(widget) ?? 0) + 1);
      draw(widget);
    };
  }

  /** Open notebooks of runs, and tell when a run ends or waits. */
  function listenForRuns(app, tracker) {
    const badge = makeBadges(app);
    window.addEventListener("workbench:open", (event) => {
      const { path, home, beside } = event.detail;
      const place = beside ? besideOf(tracker, event.target, String(beside)) : below(String(path), String(home));
      if (place === null) return;
      app.commands.execute("docmanager:open", { path: place }).catch((error) => console.warn(NAME, error));
      event.preventDefault();
    });
    window.addEventListener("workbench:notify", (event) => {
      const { message, type } = event.detail;
      // What a person has to do stays until it is seen.
      const options = { autoClose: type === "warning" || type === "error" ? false : 8000 };
      app.commands
        .execute("apputils:notify", { message: String(message), type: String(type), options })
        .catch((error) => console.warn(NAME, error));
      badge(event.target);
      event.preventDefault();
    });
  }

  /** Where a file of the disk lies below the folder JupyterLab shows; null when it cannot show it. */
  function below(path, home) {
    const root = String(pageConfig().serverRoot ?? "").replace(/^~/, home).replace(/\/+$/, "");
    if (!path.startsWith(`${root}/`)) return null;
    const place = path.slice(root.length + 1);
    return place.split("/").some((part) => part.startsWith(".")) ? null : place;
  }

  /** Where a file beside the notebook of a view lies. */
  function besideOf(tracker, node, name) {
    const path = panelOf(tracker, node)?.context.path;
    if (path === undefined) return null;
    return path.slice(0, Math.max(path.lastIndexOf("/"), path.lastIndexOf(":")) + 1) + name;
  }

  /** The notebook a node stands in, else the one in front. */
  function panelOf(tracker, node) {
    const found = node instanceof Node ? tracker.find((panel) => panel.node.contains(node)) : null;
    return found ?? tracker.currentWidget;
  }

  function addCommand(app, tiles) {
    const command = "workbench:new-chat";
    app.commands.addCommand(command, {
      label: "Model chat",
      caption: "A notebook with a chat with a local model",
      iconClass: "jp-MaterialIcon jp-LauncherIcon",
      execute: async (args) => {
        const panel = await app.commands.execute("notebook:create-new", {
          cwd: args?.cwd,
          kernelName: "python3",
        });
        await panel.context.ready;
        await panel.sessionContext.ready;
        panel.content.activeCell.model.sharedModel.setSource(FIRST_CELL);
        await app.commands.execute("notebook:run-cell");
        return panel;
      },
    });
    tiles?.add({ command, category: "Notebook", rank: 10 });
  }

  const modules = {
    "./extension": async () => ({ __esModule: true, default: await makePlugin() }),
  };

  window._JUPYTERLAB = window._JUPYTERLAB ?? {};
  window._JUPYTERLAB[NAME] = {
    init: async (shareScope) => {
      scope = shareScope;
    },
    get: async (name) => {
      const module = await modules[name]();
      return () => module;
    },
  };
})();
