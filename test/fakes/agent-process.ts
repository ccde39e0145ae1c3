import { readAgentConfig } from '../../agent/config.ts';
import { runAgent } from '../../agent/run-agent.ts';

// A process of its own: what a signal does to an agent can only be seen from outside.
const [leaseTimes = '{}'] = process.argv.slice(2);
process.exitCode = await runAgent({
  config: readAgentConfig(),
  software: 'podgate/test',
  leaseTimes: JSON.parse(leaseTimes),
});
