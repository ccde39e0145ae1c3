import type { Io } from './io.ts';

/** A command of `podgate`: its line in the help, and what it does. Resolves to the exit status. */
export type Command = {
  summary: string;
  load: () => Promise<{ run: (args: string[], io: Io) => Promise<number> }>;
};

/** In the order of the help. Modules are loaded when called for: `exec` must not wait for the gateway's. */
export const COMMANDS: Readonly<Record<string, Command>> = {
  dev: {
    summary: 'run a gateway and a local agent on this machine, for development',
    load: async () => ({ run: (await import('./dev.ts')).runDev }),
  },
  gateway: {
    summary: 'run a gateway',
    load: async () => ({ run: (await import('./serve.ts')).runGatewayCommand }),
  },
  agent: {
    summary: 'run an agent, which reaches a cluster and dials the gateway',
    load: async () => ({ run: (await import('./serve.ts')).runAgentCommand }),
  },
  cluster: {
    summary: 'make a Kubernetes cluster on this machine with kind or minikube, and prepare it',
    load: async () => ({ run: (await import('./cluster.ts')).runCluster }),
  },
  images: {
    summary: 'fetch the images of the Docker backend, and say which are there',
    load: async () => ({ run: (await import('./images.ts')).runImages }),
  },
  keys: {
    summary: 'make, show and revoke the keys of callers',
    load: async () => ({ run: (await import('./keys.ts')).runKeysCommand }),
  },
  agents: {
    summary: 'make the tokens that agents join with',
    load: async () => ({ run: (await import('./agents.ts')).runAgentsCommand }),
  },
  exec: {
    summary: 'run a file or a piece of code and stream what it prints',
    load: async () => ({ run: (await import('./exec.ts')).runExec }),
  },
  executions: {
    summary: 'ask how an execution is doing, read what it says, cancel it',
    load: async () => ({ run: (await import('./executions.ts')).runExecutions }),
  },
  files: {
    summary: 'upload, list, download and delete files',
    load: async () => ({ run: (await import('./files.ts')).runFiles }),
  },
  sessions: {
    summary: 'make sandboxes that stay, run commands and Python in them, move files',
    load: async () => ({ run: (await import('./sessions.ts')).runSessions }),
  },
  shell: {
    summary: 'open an interactive terminal in a session, or come back to one',
    load: async () => ({ run: (await import('./shell.ts')).runShell }),
  },
  clusters: {
    summary: 'list the clusters that the key may use',
    load: async () => ({ run: (await import('./clusters.ts')).runClusters }),
  },
};

export function usage(): string {
  const width = Math.max(...Object.keys(COMMANDS).map((name) => name.length));
  const lines = Object.entries(COMMANDS).map(([name, { summary }]) => `  ${name.padEnd(width)}  ${summary}`);
  return `Usage: podgate COMMAND [ARGUMENTS]

Runs code that nobody trusts, in Kubernetes pods, on any number of clusters, behind one front door.

Commands:
${lines.join('\n')}

  podgate COMMAND --help   says what a command takes
  podgate --version        prints the version

exec, executions, files, sessions, shell and clusters talk to PODGATE_URL (default http://127.0.0.1:PORT, 8000) with the key in PODGATE_KEY or in the
file PODGATE_KEY_FILE; on this machine they find the key that \`podgate dev\` wrote.
`;
}
