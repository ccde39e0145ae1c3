import { parseArgs } from 'node:util';
import { Podgate } from '../client/podgate.ts';
import { clientConfig } from './config.ts';
import { endAsProgram } from './end-as-program.ts';
import { type Io, printableJson, UsageError, write } from './io.ts';
import { parseCommand, verbOf } from './parse-command.ts';
import { showExecution } from './show-execution.ts';

const HELP = `Usage: podgate executions get ID               how it is doing or how it ended, as JSON
       podgate executions events ID [-o DIR]   what it says, from its first byte, as exec shows it
       podgate executions cancel ID

Executions are known by their ids until ten minutes after their end. events ends as exec does: with the program's exit
status, 124 when it ran out of time, 125 when Podgate itself failed or was called wrongly.

  -o DIR   saves files that the program made below DIR
`;

const OPTIONS = { o: { type: 'string', short: 'o' }, help: { type: 'boolean', short: 'h' } } as const;

/** `podgate executions`. */
export function runExecutions(args: string[], io: Io): Promise<number> {
  const run = () => executions(args, io);
  return verbOf(args, OPTIONS) === 'events' ? endAsProgram('executions', io, run) : run();
}

async function executions(args: string[], io: Io): Promise<number> {
  const { values, positionals } = parse(args);
  const [verb, id, ...rest] = positionals;
  if (values.help || verb === undefined) {
    await write(values.help ? io.stdout : io.stderr, HELP);
    return values.help ? 0 : 2;
  }
  const verbs: Record<string, (podgate: Podgate, id: string) => Promise<number>> = {
    get: async (podgate, id) => {
      const status = await podgate.executions.get(id, { signal: io.signal });
      await write(io.stdout, printableJson(status));
      return 0;
    },
    events: (podgate, id) =>
      showExecution(podgate, podgate.executions.events(id, { signal: io.signal }), { io, saveTo: values.o }),
    cancel: async (podgate, id) => {
      await podgate.executions.cancel(id, { signal: io.signal });
      return 0;
    },
  };
  const act = Object.hasOwn(verbs, verb) ? verbs[verb] : undefined;
  if (!act) throw new UsageError(`there is no 'executions ${verb}': use get, events or cancel`);
  if (id === undefined || rest.length > 0)
    throw new UsageError("give one ID. 'podgate executions --help' says more.");
  const config = await clientConfig(io.signal);
  return act(new Podgate({ baseUrl: config.baseUrl, key: config.key }), id);
}

function parse(args: string[]) {
  return parseCommand('executions', () => parseArgs({ args, allowPositionals: true, options: OPTIONS }));
}
