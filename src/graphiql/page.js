// Starts GraphiQL: where the endpoint is, what the first tab shows, what is remembered.
// Queries and mutations go by POST, subscriptions by WebSocket (graphql-transport-ws). The entries of the headers
// editor go with both: as HTTP headers, and as the payload of connection_init, since a browser sets no headers on a
// WebSocket.
(() => {
  "use strict";
  const { createElement } = React;

  const endpoint = new URL("/graphql", location.href);
  const socket = new URL(endpoint);
  socket.protocol = endpoint.protocol === "https:" ? "wss:" : "ws:";

  const fetcher = GraphiQL.createFetcher({ url: endpoint.href, subscriptionUrl: socket.href });

  // GraphiQL's history writes each request's headers to the browser's storage, even where the person has not asked
  // for headers to be kept. A token would outlive its tab there, so the history is kept without them.
  const storage = {
    get length() {
      return localStorage.length;
    },
    getItem: (key) => localStorage.getItem(key),
    removeItem: (key) => localStorage.removeItem(key),
    clear: () => localStorage.clear(),
    setItem(key, value) {
      const history = key === "graphiql:queries" || key === "graphiql:favorites";
      const keepHeaders = localStorage.getItem("graphiql:shouldPersistHeaders") === "true";
      localStorage.setItem(key, history && !keepHeaders ? withoutHeaders(value) : value);
    },
  };

  function withoutHeaders(json) {
    return JSON.stringify(JSON.parse(json), (key, value) => (key === "headers" ? undefined : value));
  }

  // The documentation prints defaults with graphql-js, which has no form for an object as the default of a custom
  // scalar (`parameters: JSON = {}`): it throws, and the whole page goes blank. Such defaults are told in words.
  function explainObjectDefaults(schema) {
    for (const type of Object.values(schema.getTypeMap())) {
      const fields = Object.values(type.getFields?.() ?? {});
      for (const input of fields.flatMap((field) => field.args ?? [field])) {
        if (typeof input.defaultValue !== "object" || input.defaultValue === null) continue;
        if (!isCustomScalar(schema, input.type)) continue;
        const told = `Default: \`${JSON.stringify(input.defaultValue)}\``;
        input.description = [input.description, told].filter(Boolean).join("\n\n");
        input.defaultValue = undefined;
      }
    }
  }

  function isCustomScalar(schema, type) {
    return "specifiedByURL" in (schema.getType(String(type).replace(/[[\]!]/g, "")) ?? {});
  }

  const logo = createElement(
    GraphiQL.Logo,
    null,
    createElement("a", { className: "runql-logo", href: "/schema.graphql", title: "The schema as text" }, "RunQL"),
  );

  const page = createElement(
    GraphiQL,
    {
      fetcher,
      storage,
      defaultQuery: document.getElementById("example").content.textContent,
      // The room is better used for the example; the tabs of both tools stay in sight.
      defaultEditorToolsVisibility: false,
      onSchemaChange: explainObjectDefaults,
      inputValueDeprecation: true,
      schemaDescription: true,
      // `shouldPersistHeaders` stays unset: off, so that a token is gone with the tab, until the person asks for it in
      // the settings. Set to false, that choice would not be offered.
    },
    logo,
  );
  ReactDOM.createRoot(document.getElementById("graphiql")).render(page);
})();
