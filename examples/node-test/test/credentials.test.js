import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { GetCallerIdentityCommand, STSClient } from "@aws-sdk/client-sts";

/** The control interface of `taskcreds exec --control`. */
async function control(method, path, body) {
  const answer = await fetch(process.env.TASKCREDS_CONTROL + path, { method, body: body && JSON.stringify(body) });
  assert.ok(answer.ok, `${method} ${path}: ${answer.status}`);
  return answer.json();
}

const whoAmI = async (sts) => (await sts.send(new GetCallerIdentityCommand({}))).Arn;

beforeEach(() => control("DELETE", "/journal"));
afterEach(() => control("DELETE", "/faults"));

test("a new session is picked up", async () => {
  const sts = new STSClient({});
  const accessKeyId = async () => (await sts.config.credentials()).accessKeyId;
  const before = await accessKeyId();
  await control("POST", "/tasks/exec/rotate");
  // Close to the end of a session this SDK fetches the next one beside a call, which still has the one before.
  let now = before;
  for (let calls = 0; now === before && calls < 20; calls++) {
    assert.match(await whoAmI(sts), /:assumed-role\/demo\//);
    now = await accessKeyId();
  }
  assert.notEqual(now, before);
});

test("two failures are ridden out", async () => {
  await control("PUT", "/faults", { faults: ["exec:status=503,times=2"] });
  assert.match(await whoAmI(new STSClient({})), /:assumed-role\/demo\//);
  const { entries } = await control("GET", "/journal?task=exec&place=credentials");
  const statuses = entries.map((entry) => entry.status);
  // Counted, as the client of the test before may still have been fetching.
  assert.equal(statuses.filter((status) => status === 503).length, 2);
  assert.equal(statuses.at(-1), 200);
});
