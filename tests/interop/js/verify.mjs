// SPDX-License-Identifier: Apache-2.0
// Verifies DKIM signatures by mailauth: node verify.mjs RECORDS.json FILE…;
// prints, for each file, the result of each of its signatures.
import { readFileSync } from "node:fs";
import { dkimVerify } from "mailauth/lib/dkim/verify.js";

const [records, ...files] = process.argv.slice(2);
const known = JSON.parse(readFileSync(records, "utf8"));
const resolver = async (name) => {
    if (name in known) return [[known[name]]];
    throw Object.assign(new Error("no such name"), { code: "ENOTFOUND" });
};
for (const file of files) {
    const { results } = await dkimVerify(readFileSync(file), { resolver });
    console.log(JSON.stringify(results.map((r) => [
        r.status.result, r.status.comment || "", r.selector || ""])));
}
