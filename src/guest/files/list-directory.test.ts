import { expect, test } from "vitest";
import { FakeAgent } from "../testing/fake-agent.js";
import { answer, entry, nextCall } from "../testing/file-agent.js";
import { FileClient } from "./file-client.js";
import { listDirectory } from "./list-directory.js";

test("directories that are listed at the same time share one limit, which counts as entries arrive", async () => {
  const { agent, connection } = await FakeAgent.connected();
  const listing = listDirectory(new FileClient(async () => connection), "/d", { recursive: true }, { left: 4 });
  listing.catch(() => {});
  const root = await nextCall(agent);
  agent.stdout(root.stream, Buffer.concat([entry(4, "a"), entry(4, "b")]));
  answer(agent, root.stream);
  const [first, second] = [await nextCall(agent), await nextCall(agent)];
  agent.stdout(first.stream, entry(8, "x"));
  agent.stdout(second.stream, Buffer.concat([entry(8, "y"), entry(8, "z")]));
  // Neither of the two has ended yet.
  expect((await agent.next("kill")).stream).toBe(second.stream);
  agent.failed(second.stream, "ECANCELED", "cancelled");
  answer(agent, first.stream);
  await expect(listing).rejects.toThrow(expect.objectContaining({ code: "PROTOCOL_ERROR" }));
});
