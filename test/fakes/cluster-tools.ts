import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export type ToolName = 'kind' | 'minikube' | 'kubectl';
export type ToolCall = { tool: string; args: string[]; kubeconfig: string; stdin: string };

/** kind, minikube and kubectl as a folder for the PATH: they record how they are called and refuse what the real ones do. */
export type ClusterTools = {
  readonly path: string;
  calls(): Promise<ToolCall[]>;
  /** `kind get clusters` and `minikube profile list` name these. */
  setClusters(tool: 'kind' | 'minikube', names: readonly string[]): Promise<void>;
  /** What `kubectl get namespace` prints: NAME=OWNER. Nothing unless set: there is none. */
  setNamespace(text: string): Promise<void>;
  /** The next calls that start so end with status 1. */
  breakCall(start: string): Promise<void>;
  remove(): Promise<void>;
};

const NAME = '[a-z0-9.-]+';
const CONTEXT = '.+';
/** Argument lists, joined by blanks, that each tool understands. */
const GRAMMAR: Record<ToolName, string[]> = {
  kind: [
    'get clusters',
    `create cluster --name ${NAME} --wait \\d+s`,
    `export kubeconfig --name ${NAME}`,
    `load docker-image \\S+ --name ${NAME}`,
    `delete cluster --name ${NAME}`,
  ],
  minikube: [
    'profile list --output json',
    `start --profile ${NAME} --wait all --interactive=false`,
    `image load \\S+ --profile ${NAME}`,
    `delete --profile ${NAME}`,
  ],
  kubectl: [
    'version --client',
    'config current-context',
    `--context ${CONTEXT} wait --for=condition=Ready nodes --all --timeout=\\d+s`,
    `--context ${CONTEXT} get namespace ${NAME} --ignore-not-found -o jsonpath=\\{\\.metadata\\.name\\}=\\{\\.metadata\\.labels\\['app\\\\\\.kubernetes\\\\\\.io/part-of'\\]\\}`,
    `--context ${CONTEXT} apply -f -`,
    `--context ${CONTEXT} delete namespace -l [a-z0-9./-]+=[a-z]+ --field-selector metadata\\.name=${NAME} --timeout=\\d+s`,
  ],
};

export async function createClusterTools(installed: readonly ToolName[]): Promise<ClusterTools> {
  const path = await mkdtemp(join(tmpdir(), 'podgate-cluster-tools-'));
  const inside = (name: string) => join(path, name);
  for (const tool of installed) {
    await writeFile(inside(tool), source(tool, path));
    await chmod(inside(tool), 0o755);
  }
  return {
    path,
    async calls() {
      const text = await readFile(inside('calls.log'), 'utf8').catch(() => '');
      return text.split('\n').flatMap((line) => (line === '' ? [] : [JSON.parse(line) as ToolCall]));
    },
    setClusters: (tool, names) => writeFile(inside(`${tool}.clusters`), names.join('\n')),
    setNamespace: (text) => writeFile(inside('namespace'), text),
    breakCall: (start) => writeFile(inside('broken'), start),
    remove: () => rm(path, { recursive: true, force: true }),
  };
}

/** CommonJS, as the file has no ending: run by the Node that runs the tests, since the PATH holds nothing else. */
function source(tool: ToolName, folder: string): string {
  return `#!${process.execPath}
const { appendFileSync, readFileSync } = require('node:fs');
const read = (name) => { try { return readFileSync(${JSON.stringify(folder)} + '/' + name, 'utf8'); } catch { return ''; } };
const args = process.argv.slice(2);
const line = args.join(' ');
const stdin = args.includes('-f') ? readFileSync(0, 'utf8') : '';
appendFileSync(${JSON.stringify(join(folder, 'calls.log'))}, JSON.stringify({ tool: '${tool}', args, kubeconfig: process.env.KUBECONFIG ?? '', stdin }) + '\\n');
const grammar = ${JSON.stringify(GRAMMAR[tool])};
const end = (status, text) => { process.stderr.write(text + '\\n'); process.exit(status); };
if (!grammar.some((form) => new RegExp('^' + form + '$').test(line))) end(64, 'unknown: ${tool} ' + line);
const broken = read('broken');
if (broken !== '' && ('${tool} ' + line).startsWith(broken)) end(1, 'ERROR: it is broken');
const clusters = read('${tool}.clusters').split('\\n').filter((name) => name !== '');
if (line === 'get clusters') process.stdout.write(clusters.map((name) => name + '\\n').join(''));
else if (line.startsWith('profile list')) {
  if (clusters.length === 0) { process.stdout.write('{"error":{}}'); process.exit(14); }
  process.stdout.write(JSON.stringify({ invalid: [], valid: clusters.map((Name) => ({ Name, Status: 'Running' })) }));
} else if (line.includes(' get namespace ')) process.stdout.write(read('namespace'));
else if (line === 'config current-context') process.stdout.write('the-current-one\\n');
else process.stdout.write('${tool} is done\\n');
`;
}
