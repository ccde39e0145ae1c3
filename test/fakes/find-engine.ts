import { engineAddress } from '../../agent/backends/docker/engine-address.ts';
import { createEngineClient } from '../../agent/backends/docker/engine-client.ts';
import { findImage } from '../../agent/backends/docker/images.ts';
import type { Failure } from '../../shared/errors.ts';

const LOOK_MS = 5_000;

export type FoundEngine = { host: string; image: string } | { trouble: string };

/** The engine and the image that tests may use; or why there is none, in one line. */
export async function findEngine(environment: NodeJS.ProcessEnv = process.env): Promise<FoundEngine> {
  const host =
    environment.PODGATE_TEST_DOCKER_HOST || environment.DOCKER_HOST || 'unix:///var/run/docker.sock';
  const image = environment.PODGATE_TEST_DOCKER_IMAGE || 'podgate-sandbox';
  try {
    const settings = { host, tlsVerify: false, certPath: undefined, sockets: [] };
    const client = createEngineClient(engineAddress(settings));
    try {
      await findImage(client, image, AbortSignal.timeout(LOOK_MS));
      return { host, image };
    } finally {
      client.close();
    }
  } catch (cause) {
    const { code, detail } = cause as Failure;
    const why = code === 'image_error' ? `it has no image '${image}'` : (detail ?? String(cause));
    return { trouble: `no Docker engine for test/docker at ${host}: ${why}` };
  }
}
