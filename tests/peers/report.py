"""Lines of a comparison, and whether all are well."""
import numpy


class Report:
    def __init__(self):
        self.good, self.model = True, ""

    def check(self, what, good, detail):
        self.good &= bool(good)
        print(f"{self.model:<24} {what:<32} {'ok' if good else 'OFF':<3} {detail}", flush=True)

    def arrays(self, what, ours, theirs, limit, more=""):
        """The largest difference over the largest value."""
        if ours.shape != theirs.shape:
            self.check(what, False, f"shape {ours.shape}, expected {theirs.shape}")
            return
        off = float(numpy.abs(ours - theirs).max() / numpy.abs(theirs).max())
        self.check(what, off <= limit, f"off by {off:.1e}{more}")

    def number(self, what, ours, theirs, limit, more=""):
        off = abs(ours / theirs - 1)
        self.check(what, off <= limit, f"{ours:.6f}, off by {off:.1e}{more}")
