import { createInterface } from "node:readline";

// The message of an error and of what lies behind it, in one line. AggregateError, of a name with two addresses, has none of its own.
function text(error) {
  const parts = [];
  for (let e = error; e; e = e.cause ?? e.originalError ?? e.errors?.[0]) {
    const message = String(e.message || e.code || "");
    if (message && !parts.includes(message)) parts.push(message);
  }
  const line = `${error.name}: ${parts.join(": ")}`.replace(/\s+/g, " ");
  return line.length <= 4000 ? line : `${line.slice(0, 1998)} … ${line.slice(-1998)}`;
}

export async function answer(call) {
  for await (const _ of createInterface({ input: process.stdin })) {
    const result = await call().then((arn) => ({ ok: true, arn }), (e) => ({ ok: false, error: text(e) }));
    console.log(JSON.stringify(result));
  }
}
