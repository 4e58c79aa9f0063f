// One of several processes that open the same fresh directories at once: node opener.js PARENT NAME PROCESSES COUNT

import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Database } from "../database.js";

const [parent = "", name = "", processes = "1", count = "0"] = process.argv.slice(2);

for (let round = 0; round < Number(count); round++) {
  const meeting = join(parent, `meeting-${round}`);
  mkdirSync(meeting, { recursive: true });
  writeFileSync(join(meeting, name), "");
  // Without a pause: all are to go on at the same moment. Whoever started this has a time limit.
  while (readdirSync(meeting).length < Number(processes));
  const database = Database.open(join(parent, `state-${round}`, "below"));
  database.run("INSERT INTO verdicts VALUES (?, 'x', 1)", name);
  database.close();
}
