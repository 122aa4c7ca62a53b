// The npm package `oidc-provider` as an authorization server for tests/oauth_servers: rotating refresh tokens, and a
// retired one that comes again ends its whole family. It is told what to do by JSON lines on standard input, answers
// each with one on standard output, and ends with the input.
import { generateKeyPairSync } from "node:crypto";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

// Where install.sh puts it.
const installed = createRequire(new URL("../../../.tools/oauth/", import.meta.url));
const { Provider } = await import(installed.resolve("oidc-provider"));

const DAY = 24 * 3600;
const SCOPES = ["openid", "offline_access", "profile", "publish"];

// What the package keeps: by model, then by id. Nothing expires here; the package looks at `exp` itself.
const kept = new Map();

class Kept {
  constructor(model) {
    if (!kept.has(model)) kept.set(model, new Map());
    this.entries = kept.get(model);
  }
  async upsert(id, payload) {
    this.entries.set(id, payload);
  }
  async find(id) {
    return this.entries.get(id);
  }
  async findByUid(uid) {
    return [...this.entries.values()].find((payload) => payload.uid === uid);
  }
  async findByUserCode(userCode) {
    return [...this.entries.values()].find((payload) => payload.userCode === userCode);
  }
  async consume(id) {
    this.entries.get(id).consumed = Math.floor(Date.now() / 1000);
  }
  async destroy(id) {
    this.entries.delete(id);
  }
  async revokeByGrantId(grantId) {
    for (const [id, payload] of this.entries) if (payload.grantId === grantId) this.entries.delete(id);
  }
}

let provider;
const grants = new Map(); // by account

const commands = {
  async start({ life, clients }) {
    const server = createServer((request, response) => provider.callback()(request, response));
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
    const issuer = `http://127.0.0.1:${server.address().port}`;
    const key = generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey.export({ format: "jwk" });
    provider = new Provider(issuer, {
      adapter: Kept,
      scopes: SCOPES,
      jwks: { keys: [{ ...key, alg: "ES256", use: "sig" }] },
      features: { devInteractions: { enabled: false } },
      findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
      rotateRefreshToken: true,
      ttl: { AccessToken: life, RefreshToken: DAY, Grant: DAY, IdToken: life },
    });
    for (const client of clients) await register(client);
    return { token: `${issuer}/token`, probe: `${issuer}/me` };
  },

  async mint({ accounts }) {
    const tokens = {};
    for (const [accountId, clientId] of accounts) {
      const client = await provider.Client.find(clientId);
      const grant = new provider.Grant({ accountId, clientId });
      grant.addOIDCScope(SCOPES.join(" "));
      const common = { accountId, client, grantId: await grant.save(), gty: "authorization_code", scope: SCOPES.join(" ") };
      tokens[accountId] = {
        access: await new provider.AccessToken(common).save(),
        refresh: await new provider.RefreshToken(common).save(),
        scopes: SCOPES,
      };
      grants.set(accountId, grant.jti);
    }
    return tokens;
  },

  // What a person does who takes an application off the list of those that may act for them.
  async revoke({ accounts }) {
    for (const account of accounts) {
      const grant = await provider.Grant.find(grants.get(account));
      await provider.AccessToken.revokeByGrantId(grant.jti);
      await provider.RefreshToken.revokeByGrantId(grant.jti);
      await grant.destroy();
    }
  },

  async take_scope({ accounts, scope }) {
    for (const account of accounts) {
      const grant = await provider.Grant.find(grants.get(account));
      grant.rejectOIDCScope(scope);
      await grant.save();
    }
  },

  async end_access({ accounts }) {
    for (const [id, payload] of kept.get("AccessToken")) {
      if (accounts.includes(payload.accountId)) kept.get("AccessToken").delete(id);
    }
  },

  async change_secret(client) {
    await register(client);
  },

  // The refresh token that each account would be given a new one for.
  async live() {
    const live = {};
    for (const [id, payload] of kept.get("RefreshToken")) {
      if (!payload.consumed && kept.get("Grant").has(payload.grantId)) live[payload.accountId] = id;
    }
    return live;
  },
};

async function register({ client, secret }) {
  await new Kept("Client").upsert(client, {
    client_id: client,
    ...(secret === null ? {} : { client_secret: secret }),
    token_endpoint_auth_method: secret === null ? "none" : "client_secret_basic",
    grant_types: ["authorization_code", "refresh_token"],
    redirect_uris: ["https://publisher.invented.example/callback"],
    id_token_signed_response_alg: "ES256",
  });
}

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  const answer = await commands[command.do](command);
  process.stdout.write(`${JSON.stringify(answer ?? {})}\n`);
}
process.exit(0);
