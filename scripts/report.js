#!/usr/bin/env node
// /// runql
// description = "Reports memory, load and uptime of this machine, with structured log lines"
// timeout = "30s"
//
// [parameters.warnAtPercent]
// type = "integer"
// default = 90
// minimum = 1
// maximum = 100
// description = "Warn where more than this much of the memory is in use"
// ///
"use strict";

const fs = require("node:fs");
const os = require("node:os");

// A line that is a JSON object with a level and a message becomes a log line of that level; its other fields become
// the line's context.
function log(level, message, fields = {}) {
  console.log(JSON.stringify({ level, message, ...fields }));
}

// The same document is in RUNQL_PARAMETERS; nobody writes to standard input where this is started by hand.
function document() {
  const text = process.stdin.isTTY ? "" : fs.readFileSync(0, "utf8");
  return text.trim() === "" ? { parameters: {} } : JSON.parse(text);
}

const { jobId = null, parameters } = document();
const warnAtPercent = parameters.warnAtPercent ?? 90;
log("debug", "read the parameters", { jobId, warnAtPercent });

const mebibytes = (bytes) => Math.round(bytes / 1048576);
const usedPercent = Math.round((1 - os.freemem() / os.totalmem()) * 100);
const report = {
  memory: { totalMiB: mebibytes(os.totalmem()), freeMiB: mebibytes(os.freemem()), usedPercent },
  load: os.loadavg(),
  cores: os.cpus().length,
  uptimeSeconds: Math.floor(os.uptime()),
};

log("info", "memory", report.memory);
log("info", "load over 1, 5 and 15 minutes", { load: report.load, cores: report.cores });
if (usedPercent > warnAtPercent) {
  log("warning", `${usedPercent} % of the memory is in use`, { warnAtPercent });
}

fs.writeFileSync(process.env.RUNQL_OUTPUT ?? "/dev/null", JSON.stringify(report));
