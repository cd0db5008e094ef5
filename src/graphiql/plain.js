// The plain page: sends one operation at a time with fetch. A subscription is asked for as server-sent events
// (graphql-sse, distinct connections) and shown event by event until it ends or is stopped.
(() => {
  "use strict";
  const at = (id) => document.getElementById(id);
  const [form, query, variables, token] = ["request", "query", "variables", "token"].map(at);
  const [operation, run, stop, status, response] = ["operation", "run", "stop", "status", "response"].map(at);
  let underWay = null;

  // What the server reads as operations: `query`, `mutation` and `subscription` outside braces, parentheses, comments
  // and strings. A document that is just `{ … }` is a query without a name.
  function operations(text) {
    const bare = text.replace(/"""[^]*?"""|"(?:\\.|[^"\\\n])*"|#.*/g, " ");
    const found = [];
    let depth = 0;
    let previous = "";
    for (const word of bare.match(/[A-Za-z_]\w*|[(){}]/g) ?? []) {
      if (depth === 0 && ["query", "mutation", "subscription"].includes(previous)) {
        found.push({ kind: previous, name: /^\w/.test(word) ? word : null });
      } else if (depth === 0 && word === "{" && previous === "") {
        found.push({ kind: "query", name: null });
      }
      if (word === "{" || word === "(") depth += 1;
      if (word === "}" || word === ")") depth -= 1;
      // A finished definition leaves nothing before the next one; an operation's name does not count as a keyword.
      if (depth === 0 && word === "}") previous = "";
      else previous = word === found.at(-1)?.name ? "name" : word;
    }
    return found;
  }

  function listOperations() {
    const chosen = operation.value;
    operation.replaceChildren(
      ...operations(query.value).map(({ kind, name }, index) => {
        const option = new Option(name === null ? kind : `${kind} ${name}`, String(index));
        option.selected = option.value === chosen;
        return option;
      }),
    );
  }

  function show(value) {
    const text = typeof value === "string" ? value : JSON.stringify(value, null, 2);
    response.append(response.textContent === "" ? text : `\n${text}`);
    response.scrollTop = response.scrollHeight;
  }

  function parsed(text) {
    try {
      return JSON.parse(text);
    } catch {
      return text;
    }
  }

  // Reads `event:` and `data:` lines; an empty line ends an event.
  async function* events(body) {
    let rest = "";
    for await (const piece of body.pipeThrough(new TextDecoderStream())) {
      const blocks = (rest + piece).split(/\r?\n\r?\n/);
      rest = blocks.pop();
      for (const block of blocks) {
        const lines = block.split(/\r?\n/);
        const values = (field) =>
          lines.filter((line) => line.startsWith(`${field}:`)).map((line) => line.slice(field.length + 1).trimStart());
        yield { type: values("event")[0] ?? "message", data: values("data").join("\n") };
      }
    }
  }

  async function send() {
    const { kind, name } = operations(query.value)[Number(operation.value)] ?? { kind: "query", name: null };
    const body = { query: query.value };
    if (name !== null) body.operationName = name;
    if (variables.value.trim() !== "") body.variables = JSON.parse(variables.value);
    const headers = {
      "content-type": "application/json",
      accept:
        kind === "subscription"
          ? "text/event-stream"
          : "application/graphql-response+json, application/json;q=0.9",
    };
    if (token.value !== "") headers.authorization = `Bearer ${token.value}`;
    const answer = await fetch("/graphql", {
      method: "POST",
      headers,
      body: JSON.stringify(body),
      signal: underWay.signal,
    });
    status.textContent = `${answer.status}`;
    if (!(answer.headers.get("content-type") ?? "").startsWith("text/event-stream")) {
      show(parsed(await answer.text()));
      return;
    }
    for await (const { type, data } of events(answer.body)) {
      if (type === "complete") break;
      if (type === "next") show(parsed(data));
    }
    status.textContent += ", ended";
  }

  async function submit() {
    underWay?.abort();
    const mine = new AbortController();
    underWay = mine;
    response.textContent = "";
    status.textContent = "…";
    stop.disabled = false;
    try {
      await send();
    } catch (error) {
      if (mine === underWay) status.textContent = error.name === "AbortError" ? "stopped" : `${error}`;
    } finally {
      if (mine === underWay) stop.disabled = true;
    }
  }

  query.addEventListener("input", listOperations);
  stop.addEventListener("click", () => underWay?.abort());
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) run.click();
  });
  listOperations();
})();
