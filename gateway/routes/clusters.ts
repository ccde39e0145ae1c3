import { clusterList } from '../../shared/api.ts';
import type { ClusterDirectory } from '../clusters/cluster-directory.ts';
import { describeCluster, usableClusters } from '../clusters/describe-clusters.ts';
import { requireClusters } from '../clusters/placement.ts';
import { PAGE_QUERY, pageOf } from '../http/page.ts';
import { jsonResponse } from '../http/problem-response.ts';
import type { Route } from '../http/route.ts';

/** `GET /v1/clusters`: what the key may use. */
export function createClusterRoutes({ directory }: { directory: ClusterDirectory }): Route[] {
  return [
    {
      method: 'GET',
      path: '/v1/clusters',
      scope: 'clusters',
      handle: ({ request, caller, pathCluster }) => {
        const all = usableClusters(directory, caller);
        const clusters = pathCluster === null ? all : all.filter(({ name }) => name === pathCluster);
        // Below /clusters/{name} it is that cluster alone, and a name that is none is refused as everywhere.
        if (pathCluster !== null && clusters.length === 0)
          requireClusters(directory, { caller, cluster: pathCluster });
        const { page, next_cursor } = pageOf(clusters, new URL(request.url).searchParams);
        return jsonResponse({ clusters: page.map((each) => describeCluster(each, caller)), next_cursor });
      },
      doc: {
        summary: 'Clusters, templates and free slots',
        query: PAGE_QUERY,
        responses: { 200: { description: 'What the key may use', schema: clusterList } },
        problems: [403, 404, 422, 429, 503],
      },
    },
  ];
}
