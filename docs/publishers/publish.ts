// Publishes one post on one account as the sidecar permits; fetch only. Node 22.18 and later run it as it is:
//
//     SIDECAR=http://127.0.0.1:8641 SECRET_FILE=secrets/publisher node publish.ts tiktok brand-a post-4711
//
// Copy it, and put your own call where it says so.
import { readFileSync } from "node:fs";

const SIDECAR = process.env.SIDECAR ?? "http://127.0.0.1:8641";
const SECRET_FILE = process.env.SECRET_FILE ?? "secrets/publisher";

type Kind = "open" | "canary";
type Permit =
  | { granted: true; kind: Kind; deadline: number }
  | { granted: false; gate: string; cause: string | null; retry_after: number };
type Problem = { code: string; detail: string };

const sleep = (seconds: number) => new Promise((done) => setTimeout(done, seconds * 1000));

// Reads the secret each time, so that a changed one works at once.
function call(path: string, body: unknown): Promise<Response> {
  const secret = readFileSync(SECRET_FILE, "utf8").trim();
  const headers = { Authorization: `Bearer ${secret}`, "Content-Type": "application/json" };
  return fetch(SIDECAR + path, { method: "POST", headers, body: JSON.stringify(body) });
}

// Waits until the post may be published, and says as what. Without a sidecar it goes on as it did before.
async function permit(path: string, post: string): Promise<Kind> {
  const wish = { post, scheduled_at: Math.floor(Date.now() / 1000) };
  for (;;) {
    const answer = await call(`${path}/permits`, wish).catch(() => null);
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
    console.error(`the gate is ${permit.gate} (${permit.cause})`);
    await sleep(permit.retry_after);
  }
}

// Your own call to the provider goes here: HTTP status and answer.
async function publish(provider: string, account: string, post: string) {
  return { status: 200, body: { published: [provider, account, post] } };
}

const [provider, account, post] = process.argv.slice(2);
const path = `/v1/accounts/${encodeURIComponent(provider)}/${encodeURIComponent(account)}`;
const kind = await permit(path, post);
const { status, body } = await publish(provider, account, post);
await call("/v1/responses", { responses: [{ provider, account, status, said: { body } }] });
if (kind === "canary") await call(`${path}/canary`, { worked: status < 300, status, body });
console.log(JSON.stringify({ kind, status }));
