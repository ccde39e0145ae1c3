import { readAgentConfig } from '../../agent/config.ts';
import { runAgent } from '../../agent/run-agent.ts';

// A process of its own: what a signal does to an agent can only be seen from outside.
process.exitCode = await runAgent({ config: readAgentConfig(), software: 'podgate/test' });
