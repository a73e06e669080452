"""Plain twin of habitat.kernels.regions: one matrix after the other, as in textbooks.

Imports nothing from habitat.
"""


def count(
    rows, position, level, steps, pairs, runs, alike, near, apart, zone
):  # fmt: skip
    ranks = pairs.shape[1]
    voxels = {int(p): int(rows[p]) for p in position}

    def same_region(p, q):
        return q in voxels and voxels[p] // ranks == voxels[q] // ranks

    def cell(p):
        return divmod(voxels[p], ranks)

    for p in voxels:
        for a, step in enumerate(steps):
            if same_region(p, p + step):
                pairs[(*cell(p), a, voxels[p + step] % ranks)] += 1
            if voxels.get(p - step) != voxels[p]:  # a run begins
                length = 0
                while voxels.get(p + (length + 1) * step) == voxels[p]:
                    length += 1
                runs[(*cell(p), a, length)] += 1
        around = [p + s for s in (*steps, *-steps) if same_region(p, p + s)]
        levels = [level[voxels[q]] for q in around]
        alike[(*cell(p), sum(voxels[q] == voxels[p] for q in around))] += 1
        near[(*cell(p), len(around))] += 1
        difference = int(level[voxels[p]]) * len(around) - sum(map(int, levels))
        apart[(*cell(p), len(around))] += abs(difference)
    left = set(voxels)
    for p in voxels:
        if p in left:
            todo = [p]
            left.remove(p)
            while todo:
                q = todo.pop()
                zone[p] += 1
                for s in (*steps, *-steps):
                    if q + s in left and voxels[q + s] == voxels[q]:
                        left.remove(q + s)
                        todo.append(q + s)
