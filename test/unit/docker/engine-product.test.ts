import { expect, test } from 'vitest';
import { productOf } from '../../../agent/backends/docker/engine-product.ts';

// Components of Docker 20.10 and 28, of Podman 4.3 and 5, and of engines that name none.
test.for([
  [[{ Name: 'Engine' }, { Name: 'containerd' }, { Name: 'runc' }, { Name: 'docker-init' }], 'docker'],
  [[{ Name: 'Podman Engine' }, { Name: 'Conmon' }, { Name: 'OCI Runtime (crun)' }], 'podman'],
  [[{}], 'docker'],
  [[], 'docker'],
  [null, 'docker'],
  [undefined, 'docker'],
] as [{ Name?: string }[] | null | undefined, string][])('%j is %s', ([components, product]) => {
  expect(productOf(components)).toBe(product);
});
