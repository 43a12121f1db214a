"""Stand-in until the real one is merged."""


class _Single:
    count, index, is_chief = 1, 0, True

    def part(self, count):
        return range(count)

    def all_sum(self, array):
        return array

    def barrier(self):
        pass


SINGLE = _Single()
