/** `npm run conformance [MODULE…]`: CPython's own tests through Podgate, case by case against the interpreter itself. */
import {
  compare,
  conformanceTrouble,
  type Deviation,
  notCompared,
  QUICK_MODULES,
  type Report,
  runDirectly,
  runThroughPodgate,
  SLOW_MODULES,
  startConformanceStack,
} from './conformance.ts';

const trouble = conformanceTrouble();
if (trouble !== undefined) {
  console.error(trouble);
  process.exit(1);
}
const asked = process.argv.slice(2);
const modules = asked.length > 0 ? asked : [...QUICK_MODULES, ...SLOW_MODULES];
await using stack = await startConformanceStack();
const unexplained: Deviation[] = [];
const missing: string[] = [];
for (const module of modules) {
  const { direct, podgate, deviations } = await compareBothWays(module);
  console.log(line(module, direct, podgate, deviations));
  for (const deviation of deviations) describe(deviation);
  missing.push(...notCompared(direct, podgate));
  const unknown = deviations.filter(({ explained }) => !explained);
  if (unknown.length === 0) continue;
  // Cases that measure time fail now and then on a busy machine, on either side: what is of Podgate differs again.
  const again = new Set((await compareBothWays(module)).deviations.map(({ test }) => test));
  for (const { test } of unknown.filter(({ test }) => !again.has(test)))
    console.log(`  ${test}: the same verdict in a second run`);
  unexplained.push(...unknown.filter(({ test }) => again.has(test)));
}
if (missing.length > 0) {
  console.log(
    `Not compared: ${missing.join(', ')}. PODGATE_CONFORMANCE_TESTS may name a folder with them: Lib/test of this version's source.`,
  );
}
console.log(
  unexplained.length === 0 ? 'Every verdict is the same or explained.' : `${unexplained.length} unexplained.`,
);
process.exitCode = unexplained.length === 0 && missing.length === 0 ? 0 : 1;

/** Side by side: most of the time they wait, and neither knows of the other. */
async function compareBothWays(module: string) {
  const [direct, podgate] = await Promise.all([runDirectly([module]), runThroughPodgate(stack, [module])]);
  return { direct, podgate, deviations: compare(direct, podgate) };
}

function describe({ test, direct, podgate, explained }: Deviation): void {
  console.log(
    `  ${test}: ${direct.verdict}, through Podgate ${podgate.verdict}: ${explained?.reason ?? 'UNEXPLAINED'}`,
  );
  if (!explained) console.log(indented(podgate.reason ?? direct.reason ?? ''));
}

function line(module: string, direct: Report, podgate: Report, deviations: readonly Deviation[]): string {
  const seconds = `${direct.seconds[module]} s, through Podgate ${podgate.seconds[module]} s`;
  return `${module}: ${counts(direct)}; ${deviations.length} different; ${seconds}`;
}

function counts({ tests }: Report): string {
  const found = Object.groupBy(Object.values(tests), ({ verdict }) => verdict);
  return Object.entries(found)
    .map(([verdict, of]) => `${of?.length} ${verdict}`)
    .join(', ');
}

function indented(text: string): string {
  return text
    .trimEnd()
    .split('\n')
    .map((each) => `      ${each}`)
    .join('\n');
}
