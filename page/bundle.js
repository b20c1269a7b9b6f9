// Bundle one entry of src/ with esbuild; tools/build-page calls it.
//
//     node bundle.js ENTRY OUTDIR BANNER [--external=FILE]... [--condition=NAME] [--name=FILE] [--build=NAME]
//
// A condition chooses among the `imports` of package.json: what shows the console. A build's name is
// what its files call each other (BUILD): servers of two releases may answer one page.
//
// Parts of noVNC that this page never reaches are left out, which saves a tenth of it: the ciphers of
// RFB's other ways to log in (a console of vSphere has none, and this page gives no password), and
// the compressor of a clipboard that a console does not have. src/left-out.js stands for them.

import { readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { parseArgs } from "node:util";

import { build } from "esbuild";

const LEFT_OUT = /^\.\/(ra2|deflator|crypto\/crypto)\.js$/;
const STAND_IN = path.resolve("src/left-out.js");

const { positionals, values } = parseArgs({
    allowPositionals: true,
    options: {
        external: { type: "string", multiple: true, default: [] },
        condition: { type: "string", multiple: true, default: [] },
        name: { type: "string" },
        build: { type: "string", default: "" },
    },
});
const [entry, outdir, banner] = positionals;
const file = path.join(outdir, values.name ?? path.basename(entry));

const parts = {
    name: "parts",
    setup({ onResolve }) {
        // Other languages are files of their own, which the page loads when it wants them.
        onResolve({ filter: /^\.\/languages\// }, ({ path: wanted, kind }) =>
            kind === "dynamic-import"
                ? { path: `./${path.basename(wanted)}`, external: true }
                : undefined,
        );
        onResolve({ filter: LEFT_OUT }, ({ importer }) =>
            importer.endsWith("/novnc/core/rfb.js") ? { path: STAND_IN } : undefined,
        );
    },
};

await build({
    entryPoints: [`src/${entry}`],
    outfile: file,
    bundle: true,
    format: "esm",
    target: "es2022",
    minify: true,
    charset: "utf8",
    legalComments: "inline",
    logLevel: "warning",
    external: values.external,
    conditions: values.condition,
    define: { BUILD: JSON.stringify(values.build) },
    plugins: [parts],
});
// noVNC's source headers are not in a form that bundlers keep, so its notice is put back on top.
await writeFile(file, `${banner}\n${await readFile(file, "utf8")}`);
