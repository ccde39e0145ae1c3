#!/usr/bin/env node
// Plain JavaScript, loadable by Node 20: everything else needs MIN_NODE_MAJOR.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const MIN_NODE_MAJOR = 24;
const LOOK_MS = 500;
const ENDS_WITH_STARTER = 'podgate ends with its starter';
const SIGNALS = ['SIGTERM', 'SIGHUP', 'SIGINT', 'SIGQUIT'];
const here = dirname(fileURLToPath(import.meta.url));

// A published package carries no .ts, and Node strips no types inside node_modules.
const source = join(here, 'main.ts');
const entry = existsSync(source) ? source : join(here, '..', 'dist', 'cli', 'main.js');

if (isNpms()) endWithParent();
if (process.channel) endWithStarter();
if (Number.parseInt(process.versions.node, 10) >= MIN_NODE_MAJOR) {
  // As if started by name, which is what happens under the locked Node.
  process.argv[1] = entry;
  await import(pathToFileURL(entry).href);
} else {
  startUnder(lockedNode());
}

/**
 * Whether the parent is npm's shell, of `npx podgate …` or of this package's `npm start`. npm passes a signal on to that
 * shell, which dies of it and tells nobody: what it started would go on for ever.
 */
function isNpms() {
  const { npm_lifecycle_event: event, npm_package_name: name } = process.env;
  return event === 'npx' || (event === 'start' && name === 'podgate');
}

/** Ends as if told to, unless it was: a second signal ends at once what the first lets end. */
function endWithParent() {
  const parent = process.ppid;
  const stop = () => clearInterval(timer);
  const timer = setInterval(() => {
    if (process.ppid !== parent) {
      stop();
      process.kill(process.pid, 'SIGTERM');
      return;
    }
    // Beside those that act on the signal: alone it would be heard and not heeded.
    for (const signal of SIGNALS)
      if (process.listenerCount(signal) > 0 && !process.listeners(signal).includes(stop))
        process.once(signal, stop);
  }, LOOK_MS);
  timer.unref();
}

/** Ends as if told to when whoever runs this under another Node, and says so, is gone: by SIGKILL it can pass nothing on. */
function endWithStarter() {
  process.once('message', (message) => {
    if (message === ENDS_WITH_STARTER) process.once('disconnect', () => process.kill(process.pid, 'SIGTERM'));
  });
  // To listen alone would keep a command from ending.
  process.channel.unref();
}

/** The Node that the platform package brings, or undefined where there is none for this platform. */
function lockedNode() {
  const require = createRequire(import.meta.url);
  try {
    const manifest = require.resolve(`node-${process.platform}-${process.arch}/package.json`);
    return join(dirname(manifest), 'bin', 'node');
  } catch {
    return undefined;
  }
}

/** Runs the command under another Node and ends as it ends. */
function startUnder(node) {
  if (node === undefined) {
    console.error(
      `podgate needs Node ${MIN_NODE_MAJOR} or newer, this is ${process.version}, and none comes with the ` +
        `package for ${process.platform}-${process.arch}. Install Node ${MIN_NODE_MAJOR} and start again.`,
    );
    process.exitCode = 1;
    return;
  }
  const self = fileURLToPath(import.meta.url);
  const child = spawn(node, [...process.execArgv, self, ...process.argv.slice(2)], {
    stdio: ['inherit', 'inherit', 'inherit', 'ipc'],
  });
  // It may have ended by then.
  child.send(ENDS_WITH_STARTER, () => undefined);
  child.channel?.unref();

  // A terminal sends ^C and ^\ to the whole process group: forwarded, the child would get them twice.
  const fromTerminal = process.stdin.isTTY || process.stdout.isTTY || process.stderr.isTTY;
  for (const signal of ['SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
  for (const signal of ['SIGINT', 'SIGQUIT']) {
    process.on(signal, () => {
      if (!fromTerminal) child.kill(signal);
    });
  }

  child.on('error', (error) => {
    console.error(`podgate cannot start ${node}: ${error.message}`);
    process.exitCode = 1;
  });
  child.on('exit', (code, signal) => {
    if (signal === null) {
      process.exitCode = code ?? 1;
      return;
    }
    process.removeAllListeners(signal);
    process.kill(process.pid, signal);
  });
}
