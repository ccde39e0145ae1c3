import { AGENT_VARIABLE_NAMES, readAgentConfig } from '../agent/config.ts';
import { runAgent } from '../agent/run-agent.ts';
import { GATEWAY_VARIABLE_NAMES, readGatewayConfig } from '../gateway/node/config.ts';
import { runGateway } from '../gateway/node/run-gateway.ts';
import { CLI_VARIABLE_NAMES, environment } from './config.ts';
import { type Io, UsageError, write } from './io.ts';
import { VERSION } from './version.ts';

const GATEWAY_HELP = `Usage: podgate gateway

Runs a gateway: callers on HOST:PORT (127.0.0.1:8000), agents on the same port under /v1/agents/link, metrics on
PODGATE_METRICS_PORT (9090). It ends on SIGTERM when what runs has ended and what was asked is answered, after
PODGATE_DRAIN_MS at the latest. Before that it is not ready but takes what comes for PODGATE_DRAIN_DELAY_MS: 2 s with
other replicas, else 0.

Needs PODGATE_ISSUERS, the issuers.json that 'podgate keys init' made. It reads:
${variables(GATEWAY_VARIABLE_NAMES)}
`;

const AGENT_HELP = `Usage: podgate agent
       podgate agent manifest …   prints what puts an agent into a cluster ('podgate agent manifest --help')
       podgate agent doctor       looks at the clusters that it would serve ('podgate agent doctor --help')

Runs an agent: dials PODGATE_GATEWAY_URL with the credential in PODGATE_AGENT_TOKEN or PODGATE_AGENT_TOKEN_FILE, which
'podgate agents token' prints, and runs code on its cluster. It ends on SIGTERM when what runs has ended, after
PODGATE_DRAIN_MS at the latest. It reads:
${variables(AGENT_VARIABLE_NAMES)}
`;

/** `podgate gateway`. */
export async function runGatewayCommand(args: string[], io: Io): Promise<number> {
  if (await helped('gateway', GATEWAY_HELP, args, io)) return 0;
  const config = readGatewayConfig({
    environment: environment(),
    alsoKnown: [...AGENT_VARIABLE_NAMES, ...CLI_VARIABLE_NAMES],
  });
  return runGateway({ config, version: VERSION });
}

/** `podgate agent`. */
export async function runAgentCommand(args: string[], io: Io): Promise<number> {
  const [action, ...rest] = args;
  if (action === 'manifest') return (await import('./agent-manifest.ts')).runAgentManifest(rest, io);
  if (action === 'doctor') return (await import('./agent-doctor.ts')).runAgentDoctor(rest, io);
  if (await helped('agent', AGENT_HELP, args, io)) return 0;
  const config = readAgentConfig({
    environment: environment(),
    alsoKnown: [...GATEWAY_VARIABLE_NAMES, ...CLI_VARIABLE_NAMES],
  });
  return runAgent({ config, software: `podgate/${VERSION}` });
}

async function helped(name: string, help: string, args: string[], io: Io): Promise<boolean> {
  const [first] = args;
  if (first === undefined) return false;
  if (first !== '--help' && first !== '-h')
    throw new UsageError(
      `'${first}' is no option of ${name}: it is configured by its environment ('podgate ${name} --help')`,
    );
  await write(io.stdout, help);
  return true;
}

function variables(names: readonly string[]): string {
  return names.map((name) => `  ${name}`).join('\n');
}
