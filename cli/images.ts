import { parseArgs } from 'node:util';
import { engineAddress } from '../agent/backends/docker/engine-address.ts';
import { createEngineClient, type EngineClient } from '../agent/backends/docker/engine-client.ts';
import { findImage, pullImage } from '../agent/backends/docker/images.ts';
import { systemClock } from '../agent/clock.ts';
import { readImagesConfig } from '../agent/config.ts';
import { createTemplateSource } from '../agent/templates/template-source.ts';
import { GATEWAY_VARIABLE_NAMES } from '../gateway/node/config.ts';
import { Failure } from '../shared/errors.ts';
import { CLI_VARIABLE_NAMES, environment } from './config.ts';
import { type Io, printable, UsageError, write } from './io.ts';
import { parseCommand } from './parse-command.ts';

const HELP = `Usage: podgate images pull [--again]   fetches the images that the templates name and the engine has not
       podgate images list             prints each image, and whether the engine has it

For the Docker backend. The engine is that of DOCKER_HOST, the templates are those of PODGATE_TEMPLATES or, without it,
DOCKER_IMAGE. An agent fetches nothing: a caller would wait for it.

  --again   fetches those too that the engine has already: a tag may have moved
`;

/** `podgate images`. */
export async function runImages(args: string[], io: Io): Promise<number> {
  const { values, positionals } = parseCommand('images', () =>
    parseArgs({
      args,
      allowPositionals: true,
      options: { again: { type: 'boolean' }, help: { type: 'boolean', short: 'h' } },
    }),
  );
  const [verb, ...rest] = positionals;
  if (values.help || verb === undefined) {
    await write(values.help ? io.stdout : io.stderr, HELP);
    return values.help ? 0 : 2;
  }
  if ((verb !== 'pull' && verb !== 'list') || rest.length > 0)
    throw new UsageError(`there is no 'images ${positionals.join(' ')}': use pull or list`);
  const config = readImagesConfig(environment(), [...GATEWAY_VARIABLE_NAMES, ...CLI_VARIABLE_NAMES]);
  const images = await imagesOf(config);
  const client = createEngineClient(engineAddress(config.docker));
  try {
    let missing = 0;
    for (const image of images) {
      const isThere = await hasImage(client, image, io.signal);
      if (verb === 'pull' && (!isThere || values.again)) await pull(client, image, io);
      else if (!isThere) missing += 1;
      const state = verb === 'pull' || isThere ? 'present' : 'missing';
      await write(io.stdout, `${printable(image)}  ${state}\n`);
    }
    return missing === 0 ? 0 : 1;
  } finally {
    client.close();
  }
}

async function imagesOf(config: ReturnType<typeof readImagesConfig>): Promise<string[]> {
  const source = await createTemplateSource({
    file: config.templatesFile,
    variables: config.templateVariables,
    clock: systemClock,
    log: () => undefined,
  });
  const named = [...source.current().values()].flatMap(({ image }) => image ?? []);
  source.close();
  if (named.length === 0)
    throw new UsageError(
      'no template names an image: set DOCKER_IMAGE, or PODGATE_TEMPLATES to a templates file',
    );
  return [...new Set(named)];
}

async function hasImage(client: EngineClient, image: string, signal: AbortSignal): Promise<boolean> {
  try {
    await findImage(client, image, signal);
    return true;
  } catch (cause) {
    if (cause instanceof Failure && cause.code === 'image_error') return false;
    throw cause;
  }
}

/** Says each new state of the whole once: layers report theirs many times a second. */
async function pull(client: EngineClient, image: string, io: Io): Promise<void> {
  await write(io.stderr, `fetching ${printable(image)}\n`);
  let said = '';
  for await (const { layer, status } of pullImage(client, image, io.signal)) {
    if (layer !== '' || status === said) continue;
    said = status;
    await write(io.stderr, `  ${printable(status)}\n`);
  }
}
