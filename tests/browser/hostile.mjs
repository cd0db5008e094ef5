// Opens hostile pages in Chromium, which try whatever a page may try to use a server of another origin, and prints what
// each attempt came to. The verdict is the caller's, who also sees whether anything ran.
//
// Responsible for: pages of another port, of another host, and of a name that was rebound to the server's address. Not
// responsible for starting the server.
//
//   node hostile.mjs --target URL --log PATH --marker FILE [--page-port PORT]
//
// FILE is what each attempt would make the server touch. Prints JSON: { page: { attempt: what was read of the server, or
// null } }. With --page-port the page stands at that port of localhost, for a server that lets this origin in.
import http from "node:http";
import { parseArgs } from "node:util";
import { chromium } from "playwright-core";

const { values: wanted } = parseArgs({
  options: {
    target: { type: "string" },
    log: { type: "string" },
    marker: { type: "string" },
    "page-port": { type: "string", default: "0" },
  },
});
const target = new URL(wanted.target);
const ask = { target: target.origin, log: wanted.log, marker: wanted.marker };

const pageText = (referrer) => `<!doctype html><meta name="referrer" content="${referrer}"><title>Hostile</title>`;
const site = http.createServer((request, answer) => {
  answer.setHeader("content-type", "text/html");
  answer.end(pageText(request.url.includes("unnamed") ? "no-referrer" : "unsafe-url"));
});
await new Promise((resolve) => site.listen(Number(wanted["page-port"]), "127.0.0.1", resolve));
const { port } = site.address();

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: [
    ...["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--no-first-run"],
    "--host-resolver-rules=MAP evil.test 127.0.0.1",
  ],
});
const outcome = {};
try {
  const pages =
    wanted["page-port"] !== "0"
      ? { allowed: `http://localhost:${port}/` }
      : {
          "another port": `http://127.0.0.1:${port}/`,
          "another host": `http://evil.test:${port}/`,
          "no referrer": `http://evil.test:${port}/unnamed`,
          rebound: `http://evil.test:${target.port}/hostile`,
        };
  for (const [name, url] of Object.entries(pages)) {
    const context = await browser.newContext();
    // A rebound name served this page a moment ago; what the page asks for now goes to the server.
    await context.route("**/hostile", (route) =>
      route.fulfill({ contentType: "text/html", body: pageText("unsafe-url") }),
    );
    const page = await context.newPage();
    await page.goto(url);
    const from = name === "rebound" ? { ...ask, target: new URL(url).origin } : ask;
    outcome[name] = await page.evaluate(attempts, from);
    // What was embedded is seen from outside; the page itself could not look into it.
    const frames = page.frames().filter((frame) => frame !== page.mainFrame());
    const seen = await Promise.all(frames.map((frame) => frame.content().catch(() => "")));
    outcome[name].frames = seen.find((text) => /graphiql|"data"|private words|runql_/.test(text)) ?? null;
    // A page may always send its visitor to an address, or a form to another window.
    outcome[name].windows = await windows(context, page, from);
    await context.close();
  }
} finally {
  await browser.close();
  site.close();
}
console.log(JSON.stringify(outcome));

async function windows(context, page, from) {
  const texts = [];
  const mutation = `mutation { run(input: { command: { shell: { command: "touch ${from.marker}" } } }) { job { id } } }`;
  for (const [method, fields] of [
    ["get", { query: mutation }],
    ["post", { query: mutation }],
  ]) {
    const opened = context.waitForEvent("page");
    await page.evaluate(
      ([action, method, fields]) => {
        const form = Object.assign(document.createElement("form"), { action, method, target: "_blank" });
        for (const [name, value] of Object.entries(fields)) {
          form.append(Object.assign(document.createElement("input"), { name, value }));
        }
        document.body.append(form);
        form.submit();
      },
      [`${from.target}/graphql`, method, fields],
    );
    const window = await opened;
    await window.waitForLoadState("load").catch(() => {});
    texts.push(await window.content().catch(() => ""));
  }
  return texts.find((text) => text.includes('"data":{')) ?? null;
}

// Runs in the page. Each attempt gives what it read of the server, or null.
async function attempts({ target, log, marker }) {
  const endpoint = `${target}/graphql`;
  const mutation = `mutation { run(input: { command: { shell: { command: "touch ${marker}" } } }) { job { id } } }`;
  const subscription = "subscription { stats { counts { total } } }";
  const json = JSON.stringify({ query: mutation });
  const get = (query) => `${endpoint}?query=${encodeURIComponent(query)}`;
  const fetched = async (url, init) => {
    const answer = await fetch(url, init);
    if (answer.type === "opaque") return null;
    let text = `${answer.status} `;
    // A stream goes on for ever, and begins with an empty comment.
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    while (!text.includes("data")) {
      const { done, value } = await reader.read();
      if (done) break;
      text += value;
    }
    reader.cancel().catch(() => {});
    return text;
  };
  const post = (body, type, mode) =>
    fetched(endpoint, { method: "POST", mode, body, headers: type === undefined ? {} : { "content-type": type } });
  const multipart = () => {
    const form = new FormData();
    form.append("operations", json);
    form.append("map", "{}");
    return form;
  };
  const loaded = (kind, source) =>
    new Promise((resolve) => {
      const element = document.createElement(kind);
      // That a frame or a script came is not that it could be read; an image and a script tell whether it was one.
      const came = kind === "iframe" ? null : `a ${kind} was loaded`;
      element.onload = () => resolve(came);
      element.onerror = () => resolve(null);
      element.src = source;
      document.body.append(element);
    });
  const submitted = (encoding, fields) =>
    new Promise((resolve) => {
      const frame = Object.assign(document.createElement("iframe"), { name: `f${Math.random()}` });
      const form = Object.assign(document.createElement("form"), {
        action: endpoint,
        method: "post",
        enctype: encoding,
        target: frame.name,
      });
      for (const [name, value] of Object.entries(fields)) {
        form.append(Object.assign(document.createElement("input"), { name, value }));
      }
      document.body.append(frame, form);
      frame.onload = () => resolve(null);
      form.submit();
    });
  const socket = (query) =>
    new Promise((resolve) => {
      const opened = new WebSocket(endpoint.replace("http", "ws"), "graphql-transport-ws");
      opened.onopen = () => opened.send(JSON.stringify({ type: "connection_init" }));
      opened.onmessage = ({ data }) => {
        const { type, payload } = JSON.parse(data);
        if (type === "connection_ack") {
          opened.send(JSON.stringify({ id: "1", type: "subscribe", payload: { query } }));
        } else if (type === "next") {
          resolve(JSON.stringify(payload));
          opened.close();
        }
      };
      opened.onclose = () => resolve(null);
    });
  const source = (query) =>
    new Promise((resolve) => {
      const events = new EventSource(get(query));
      events.addEventListener("next", ({ data }) => {
        events.close();
        resolve(data);
      });
      events.onerror = () => {
        events.close();
        resolve(null);
      };
    });
  const sandboxed = () =>
    new Promise((resolve) => {
      const frame = document.createElement("iframe");
      frame.sandbox = "allow-scripts";
      const init = JSON.stringify({ method: "POST", mode: "no-cors", body: json });
      frame.srcdoc = `<script>fetch(${JSON.stringify(endpoint)}, ${init}).finally(() => parent.postMessage("sent", "*"))</script>`;
      addEventListener("message", () => resolve(null), { once: true });
      document.body.append(frame);
    });

  const all = {
    json: () => post(json, "application/json"),
    "text/plain": () => post(json, "text/plain"),
    "text/plain, not to be read": () => post(json, "text/plain", "no-cors"),
    "no type": () => post(new Blob([json]), undefined, "no-cors"),
    urlencoded: () => post(new URLSearchParams({ query: mutation })),
    multipart: () => post(multipart(), undefined, "no-cors"),
    "mutation by GET": () => fetched(get(mutation)),
    "mutation by GET, not to be read": () => fetched(get(mutation), { mode: "no-cors" }),
    "query by GET": () => fetched(get("{ jobs(first: 1) { nodes { id } } }")),
    "subscription by POST": () =>
      fetched(endpoint, {
        method: "POST",
        body: JSON.stringify({ query: subscription }),
        headers: { "content-type": "application/json", accept: "text/event-stream" },
      }),
    beacon: async () => void navigator.sendBeacon(endpoint, new Blob([json], { type: "text/plain" })) ?? null,
    "form, urlencoded": () => submitted("application/x-www-form-urlencoded", { query: mutation }),
    "form, multipart": () => submitted("multipart/form-data", { operations: json, map: "{}" }),
    // The sign of equality that a form puts between name and value can be made part of the JSON.
    "form, text/plain": () => submitted("text/plain", { [`${json.slice(0, -1)},"x":"`]: '"}' }),
    image: () => loaded("img", get(mutation)),
    script: () => loaded("script", get(mutation)),
    "mutation by WebSocket": () => socket(mutation),
    "subscription by WebSocket": () => socket(subscription),
    "mutation by EventSource": () => source(mutation),
    "subscription by EventSource": () => source(subscription),
    sandboxed,
    log: () => fetched(`${target}${log}`),
    metrics: () => fetched(`${target}/metrics`),
    "log as a script": () => loaded("script", `${target}${log}`),
    "metrics as a script": () => loaded("script", `${target}/metrics`),
    "log in a frame": () => loaded("iframe", `${target}${log}`),
    "GraphiQL in a frame": () => loaded("iframe", `${target}/`),
    "the plain page in a frame": () => loaded("iframe", `${target}/graphiql/plain`),
  };
  const done = Object.entries(all).map(async ([name, attempt]) => {
    // Whatever hangs counts as refused; what it may have started is seen at the server.
    const patience = new Promise((resolve) => setTimeout(resolve, 15_000, null));
    return [name, await Promise.race([attempt().catch(() => null), patience])];
  });
  return Object.fromEntries(await Promise.all(done));
}
