// Print, as JSON, what the proxy's own pages say in each language; tools/build-page calls it. The
// words are the console page's, so that nothing is translated twice.
//
//     {"de": {"direction": "ltr", "heading": "...", "denied": "...", ...}, "en": ...}

import { readdirSync, readFileSync } from "node:fs";

const REASONS = JSON.parse(readFileSync("src/reasons.json", "utf8"));
// For which a link is answered by such a page, see Pages.refusal in mksfilter/proxy/web/page.py.
const SAID = ["denied", "keys-unavailable"];

const messages = {};
for (const file of readdirSync("src/languages").sort()) {
    const { default: words } = await import(`./src/languages/${file}`);
    const said = SAID.map((reason) => [reason, words[`reason.${reason}`] ?? REASONS[reason].words]);
    messages[file.replace(".js", "")] = {
        direction: words.direction,
        heading: words["not-opened"],
        ...Object.fromEntries(said),
    };
}
process.stdout.write(`${JSON.stringify(messages, null, 1)}\n`);
