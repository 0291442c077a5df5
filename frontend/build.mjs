/**
 * Bundle the front end: `node build.mjs [folder]`, by default into the Python package.
 *
 * The output is committed, so that installing needs no node; a test rebuilds it and compares bytes.
 */
import { readFile, mkdir, writeFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const target = resolve(process.argv[2] ?? join(here, "../workbench/widgets/static"));
const NOTE = "/* Bundled parts and their licences: LICENSES.txt */";

/** Licence files of a package, in the order they are looked for. */
const LICENCE_FILES = ["LICENSE", "LICENSE.md", "LICENSE.txt", "license"];

/** Return the names of the packages whose files went into a bundle. */
function packagesOf(metafile) {
  const found = new Set();
  for (const path of Object.keys(metafile.inputs)) {
    const match = /node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(path);
    if (match) found.add(match[1]);
  }
  return found;
}

async function licenceText(folder) {
  for (const name of LICENCE_FILES) {
    const text = await readFile(join(folder, name), "utf8").catch(() => null);
    if (text !== null)
      return text
        .replace(/\r\n/g, "\n")
        .replace(/[ \t]+$/gm, "")
        .trim();
  }
  throw new Error(`no licence text in ${folder}`);
}

async function licences(names) {
  const parts = ["Parts bundled into the files beside this one, with their licences.\n"];
  for (const name of [...names].sort()) {
    const folder = join(here, "node_modules", name);
    const facts = JSON.parse(await readFile(join(folder, "package.json"), "utf8"));
    const head = `${name} ${facts.version} (${facts.license})`;
    parts.push(`${"=".repeat(78)}\n${head}\n${"=".repeat(78)}\n\n${await licenceText(folder)}\n`);
  }
  return parts.join("\n");
}

async function main() {
  await mkdir(target, { recursive: true });
  const result = await build({
    absWorkingDir: here,
    entryPoints: {
      chat: "src/main.js",
      math: "src/late-module.js",
      models: "src/models/main.js",
      dashboard: "src/dashboard/main.js",
      runs: "src/runs/main.js",
      dialogue: "src/dialogue/main.js",
      compare: "src/compare/main.js",
      "chat-css": "src/chat.css",
      "models-css": "src/models/models.css",
      "dashboard-css": "src/dashboard/dashboard.css",
      "runs-css": "src/runs/runs.css",
      "dialogue-css": "src/dialogue/dialogue.css",
      "compare-css": "src/compare/compare.css",
    },
    outdir: target,
    entryNames: "[name]",
    bundle: true,
    format: "esm",
    target: "es2022",
    minify: true,
    charset: "utf8",
    legalComments: "none",
    banner: { js: NOTE, css: NOTE },
    metafile: true,
    write: false,
  });
  for (const file of result.outputFiles) {
    const path = file.path.replace(/-css\.css$/, ".css");
    await writeFile(path, file.contents);
  }
  await writeFile(join(target, "LICENSES.txt"), await licences(packagesOf(result.metafile)));
}

await main();
