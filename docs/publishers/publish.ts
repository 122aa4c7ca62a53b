// Publishes one post on one account as the sidecar permits; fetch only. Node 22.18 and later run it as it is:
//
//     SIDECAR=http://127.0.0.1:8641 SECRET_FILE=secrets/publisher node publish.ts tiktok brand-a post-4711
//
// Copy it, and put your own call where it says so.
import { readFileSync } from "node:fs";

const SIDECAR = process.env.SIDECAR ?? "http://127.0.0.1:8641";
const SECRET_FILE = process.env.SECRET_FILE ?? "secrets/publisher";

type Permit =
  | { granted: true; kind: "open" | "canary"; deadline: number }
  | { granted: false; gate: string; cause: string | null; retry_after: number };
type Problem = { code: string; detail: string };

const sleep = (seconds: number) => new Promise((done) => setTimeout(done, seconds * 1000));

// Reads the secret each time, so that a changed one works at once.
function call(path: string, body: unknown): Promise<Response> {
  const secret = readFileSync(SECRET_FILE, "utf8").trim();
  const headers = { Authorization: `Bearer ${secret}`, "Content-Type": "application/json" };
  return fetch(SIDECAR + path, { method: "POST", headers, body: JSON.stringify(body) });
}

const pathOf = (provider: string, account: string, leaf: string) =>
  `/v1/accounts/${encodeURIComponent(provider)}/${encodeURIComponent(account)}/${leaf}`;

// Waits until the post may be published. Without a sidecar a publisher goes on as it did before.
async function permit(provider: string, account: string, post: string): Promise<"open" | "canary"> {
  const wish = { post, scheduled_at: Math.floor(Date.now() / 1000) };
  for (;;) {
    const answer = await call(pathOf(provider, account, "permits"), wish).catch(() => null);
    if (answer === null) return "open";
    if (answer.status === 503) {
      await sleep(Number(answer.headers.get("Retry-After") ?? "5"));
      continue;
    }
    if (!answer.ok) {
      const problem = (await answer.json()) as Problem;
      throw new Error(`${problem.code}: ${problem.detail}`);
    }
    const permit = (await answer.json()) as Permit;
    if (permit.granted) return permit.kind;
    console.error(`${provider}/${account} is ${permit.gate} (${permit.cause})`);
    await sleep(permit.retry_after);
  }
}

// Your own call to the provider goes here: HTTP status and answer.
async function publish(provider: string, account: string, post: string) {
  return { status: 200, body: { published: [provider, account, post] } };
}

const [provider, account, post] = process.argv.slice(2);
const kind = await permit(provider, account, post);
const { status, body } = await publish(provider, account, post);
await call("/v1/responses", { responses: [{ provider, account, status, said: { body } }] });
if (kind === "canary") {
  const result = { worked: status < 300, status, body };
  await call(pathOf(provider, account, "canary"), result);
}
console.log(JSON.stringify({ kind, status }));
