// Drives the page at `/` in Chromium as a person would, and fails on whatever a person would call broken.
//
// Responsible for: GraphiQL comes up from this server alone; a query typed in and run shows its response; a
// subscription shows its events; the documentation shows the schema's descriptions; the headers editor's token goes
// along with both transports and is not kept; no console error, no violation of the content security policy, no
// failed request. Not responsible for starting the server.
//
//   node graphiql.mjs --url URL --query TEXT --response TEXT [--subscription TEXT --event TEXT] [--docs TEXT]
//                     [--example] [--screenshot FILE] [--plain] [--token TEXT]
//
// Operations need a name. `--response`, `--event` and `--docs` are what must come to be read on the page. `--example` also runs the first
// operation of the page's own example and wants no error. `--plain` tests `/graphiql/plain` instead. With `--token` the
// server wants this one: until it is entered, refusals are as they should be, and introspection has to work afterwards.
import { parseArgs } from "node:util";
import { chromium } from "playwright-core";

const { values: wanted } = parseArgs({
  options: {
    url: { type: "string" },
    query: { type: "string" },
    response: { type: "string" },
    subscription: { type: "string" },
    event: { type: "string" },
    docs: { type: "string" },
    example: { type: "boolean", default: false },
    screenshot: { type: "string" },
    plain: { type: "boolean", default: false },
    token: { type: "string" },
  },
});
for (const name of ["url", "query", "response"]) {
  if (wanted[name] === undefined) throw new Error(`--${name} is missing`);
}
const TOKEN = wanted.token ?? "a-token-that-must-not-be-kept";
// Whether the server may refuse: as long as the token that it wants was not entered.
let refuses = wanted.token !== undefined;
const origin = new URL(wanted.url).origin;
const failures = [];

// What Chromium asks of hosts of its own is switched off; what the page asks of other hosts is what is tested.
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--no-first-run"],
});
try {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 } });
  context.setDefaultTimeout(15_000);
  await context.route("**/*", (route) => {
    const url = route.request().url();
    if (new URL(url).origin === origin || url.startsWith("data:")) return route.continue();
    failures.push(`asked for ${url}`);
    return route.abort();
  });
  const page = await context.newPage();
  const seen = watch(page);
  if (wanted.plain) await drivePlainPage(page, seen);
  else await driveGraphiql(page, seen);
  if (wanted.screenshot !== undefined) await page.screenshot({ path: wanted.screenshot });
} catch (error) {
  failures.push(`${error.stack ?? error}`);
  const [page] = browser.contexts().flatMap((context) => context.pages());
  if (wanted.screenshot !== undefined) await page?.screenshot({ path: wanted.screenshot });
} finally {
  await browser.close();
}
if (failures.length > 0) {
  console.error(failures.map((failure) => `- ${failure}`).join("\n"));
  process.exitCode = 1;
}

// Collects what goes wrong without being asked, and what was sent.
function watch(page) {
  const seen = { authorizations: [], frames: [] };
  page.on("console", (message) => {
    if (refuses && message.text().includes("401")) return;
    if (message.type() === "error") failures.push(`console: ${message.text()} (${message.location().url})`);
  });
  page.on("pageerror", (error) => failures.push(`exception: ${error.stack}`));
  page.on("response", (response) => {
    if (refuses && response.status() === 401) return;
    if (response.status() >= 400) failures.push(`${response.status()} for ${response.url()}`);
  });
  page.on("request", (request) => seen.authorizations.push(request.headers().authorization));
  page.on("websocket", (socket) => {
    if (new URL(socket.url()).host !== new URL(origin).host) failures.push(`opened ${socket.url()}`);
    socket.on("framesent", ({ payload }) => seen.frames.push(JSON.parse(payload)));
  });
  return seen;
}

async function driveGraphiql(page, seen) {
  const answer = await page.goto(wanted.url, { waitUntil: "load" });
  const policy = answer.headers()["content-security-policy"] ?? "";
  check(policy.includes("script-src 'self';"), `the policy lets scripts in: ${policy}`);
  await page.locator(".graphiql-container").waitFor();
  const response = page.locator(".graphiql-response");
  // GraphiQL reads the operation's name a moment after a change, and shows it on the tab: a person is slower than that.
  const run = async (text) => {
    await write(page, ".graphiql-query-editor .CodeMirror", text);
    await page.locator(".graphiql-tab-active").getByText(/\w+ (\w+)/.exec(text)[1], { exact: true }).waitFor();
    await page.keyboard.press("Control+Enter");
  };

  if (wanted.example) {
    await page.locator(".graphiql-query-editor .CodeMirror").click({ position: { x: 200, y: 10 } });
    await page.getByLabel("Execute query (Ctrl-Enter)").click();
    await page.getByRole("menuitem").first().click();
    await shows(response, '"data"', "the example");
    check(!(await response.innerText()).includes('"errors"'), "the example's first operation ends with errors");
    const marks = await page.locator(".graphiql-query-editor .CodeMirror-lint-mark-error").count();
    check(marks === 0, `the schema does not know ${marks} places of the example`);
  }

  await page.getByRole("button", { name: "Headers", exact: true }).click();
  const headers = '.graphiql-editor-tool section[aria-label="Headers"] .CodeMirror, .graphiql-editor-tool .CodeMirror:visible';
  if (refuses) await shows(response, "this server asks for a token", "the page without a token");
  await write(page, headers, JSON.stringify({ Authorization: `Bearer ${TOKEN}` }));
  if (refuses) {
    const introspected = page.waitForResponse((answer) => answer.url().endsWith("/graphql") && answer.ok());
    await page.getByLabel("Re-fetch GraphQL schema").click();
    refuses = false;
    await introspected;
  }
  await run(wanted.query);
  await shows(response, wanted.response, "the query");
  check(seen.authorizations.includes(`Bearer ${TOKEN}`), "the token did not go along with the query");

  if (wanted.subscription !== undefined) {
    await run(wanted.subscription);
    await shows(response, wanted.event, "the subscription");
    const init = seen.frames.find((frame) => frame.type === "connection_init");
    check(init?.payload?.Authorization === `Bearer ${TOKEN}`, "the token did not go along with the subscription");
  }

  if (wanted.docs !== undefined) {
    await page.getByLabel("Show Documentation Explorer").click();
    const docs = page.locator(".graphiql-doc-explorer");
    await docs.getByText("Query", { exact: true }).first().click();
    await docs.getByText(wanted.docs).first().waitFor();
  }
  // The dialog is also where GraphiQL writes a style element, which the policy has to let through.
  await page.getByLabel("Open settings dialog").click();
  await page.getByText("Persist headers").waitFor();
  await page.keyboard.press("Escape");
  await page.getByText("Persist headers").waitFor({ state: "hidden" });
  const kept = await page.evaluate(() => JSON.stringify({ ...localStorage, ...sessionStorage }) + document.cookie);
  check(!kept.includes(TOKEN), `the token is kept in the browser: ${kept}`);
}

async function drivePlainPage(page, seen) {
  await page.goto(new URL("/graphiql/plain", wanted.url).href, { waitUntil: "load" });
  const response = page.locator("#response");
  check((await page.locator("#operation option").count()) === 3, "the example's three operations are not listed");
  if (wanted.example) {
    await page.locator("#run").click();
    await shows(response, '"data"', "the example");
    check(!(await response.innerText()).includes('"errors"'), "the example's first operation ends with errors");
  }
  refuses = false;
  await page.locator("#token").fill(TOKEN);
  await page.locator("#query").fill(wanted.query);
  await page.locator("#query").press("Control+Enter");
  await shows(response, wanted.response, "the query");
  check(seen.authorizations.includes(`Bearer ${TOKEN}`), "the token did not go along with the query");
  if (wanted.subscription !== undefined) {
    await page.locator("#query").fill(wanted.subscription);
    await page.locator("#run").click();
    await shows(response, wanted.event, "the subscription");
    if (await page.locator("#stop").isEnabled()) await page.locator("#stop").click();
  }
}

// Replaces an editor's text in one go: typed letter by letter, the editor would add closing brackets of its own.
async function write(page, editor, text) {
  await page.locator(editor).first().click();
  await page.keyboard.press("Control+A");
  await page.keyboard.insertText(text);
}

async function shows(place, text, what) {
  try {
    await place.getByText(text).or(place.filter({ hasText: text })).first().waitFor();
  } catch {
    throw new Error(`${what} never showed ${text}, but: ${await place.innerText()}`);
  }
}

function check(holds, otherwise) {
  if (!holds) failures.push(otherwise);
}
