import { parseArgs } from 'node:util';
import { chooseContexts } from '../agent/backends/kubernetes/cluster-contexts.ts';
import { loadKubeContexts } from '../agent/backends/kubernetes/kube-config.ts';
import { systemClock } from '../agent/clock.ts';
import { readDoctorConfig } from '../agent/config.ts';
import { checkText } from '../agent/doctor/check.ts';
import { examine } from '../agent/doctor/doctor.ts';
import { doctorInstance } from '../agent/doctor/killed-doctors.ts';
import { createTemplateSource } from '../agent/templates/template-source.ts';
import { GATEWAY_VARIABLE_NAMES } from '../gateway/node/config.ts';
import { CLI_VARIABLE_NAMES, environment } from './config.ts';
import { type Io, printable, UsageError, write } from './io.ts';
import { parseCommand } from './parse-command.ts';

const HELP = `Usage: podgate agent doctor

Looks at the Kubernetes clusters that an agent with this environment would serve (KUBECONFIG, KUBE_CONTEXTS,
KUBERNETES_NAMESPACE, PODGATE_TEMPLATES, …), and says what would keep it from serving them and what to do: each verb
that its Role needs, quotas, clocks, and, in sandboxes that it makes and ends, the image, the exec protocol, the node's
pid limit, isolation, and whether the network enforces policies. It needs no gateway. It tries the targets of
PODGATE_CANARY_TARGETS from inside. Exit status: 0, or 1 where something fails.
`;

/** `podgate agent doctor`. */
export async function runAgentDoctor(args: string[], io: Io): Promise<number> {
  const { values } = parseCommand('agent doctor', () =>
    parseArgs({ args, options: { help: { type: 'boolean', short: 'h' } } }),
  );
  if (values.help) {
    await write(io.stdout, HELP);
    return 0;
  }
  const config = readDoctorConfig(environment(), [...GATEWAY_VARIABLE_NAMES, ...CLI_VARIABLE_NAMES]);
  if (config.backend !== 'kubernetes')
    throw new UsageError(`'agent doctor' is for EXECUTOR_BACKEND=kubernetes, not ${config.backend}`);
  const { kubeconfig, contexts: wanted, namespace, cluster: only, proxyTo } = config.kubernetes;
  const contexts = await loadKubeContexts(kubeconfig, { proxyTo });
  const { where } = contexts;
  const chosen = chooseContexts({ ...contexts, wanted, cluster: only });
  const templates = await createTemplateSource({
    file: config.templatesFile,
    variables: config.templateVariables,
    clock: systemClock,
    log: () => {},
  });
  templates.close();
  for (const { detail } of contexts.problems) await write(io.stdout, `${printable(detail)}\n`);
  let failures = contexts.problems.length;
  for (const { cluster, context } of chosen) {
    const file = contexts.names.includes(context) ? contexts.fileOf(context) : where;
    await write(io.stdout, `cluster ${cluster}: context '${printable(context)}' of ${printable(file)}\n`);
    const checks = examine({
      access: () => contexts.access(context),
      namespace,
      templates: [...templates.current().values()],
      targets: config.targets,
      instance: doctorInstance(),
      clock: systemClock,
      random: Math.random,
      log: () => {},
      signal: io.signal,
    });
    for await (const check of checks) {
      if (check.state === 'fail') failures += 1;
      const { detail, advice = [] } = check;
      await write(
        io.stdout,
        checkText({ ...check, detail: printable(detail), advice: advice.map(printable) }),
      );
    }
  }
  await write(
    io.stdout,
    failures === 0 ? 'Nothing fails.\n' : `${failures} ${failures === 1 ? 'thing fails' : 'things fail'}.\n`,
  );
  return failures === 0 ? 0 : 1;
}
