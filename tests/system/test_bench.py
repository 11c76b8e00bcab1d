"""The parts of scripts/bench that measure nothing: figures from samples, the shape of the JSON, the chart, which rows are asked for."""

import dataclasses
import fcntl
import itertools
import os
import resource
import subprocess
import time
import types
import xml.etree.ElementTree as ElementTree

import pytest

from tests.bench import accounting, chart, clients, devices, driver, generated, kernel, latency, links, memif, report, rows
from tests.bench.accounting import Cores
from tests.bench.row import Row, Sample, Unit
from tests.lab.lab import LabError


@dataclasses.dataclass(frozen=True)
class Way:
    conditions = "a test"


SPEED = Row(8, "speed <& more>", Unit("k a second"), "2x", "4x", (Way(),))
SIZE = Row(14, "size", Unit("KiB", less_is_better=True), "20x", "50x", (Way(),))
ALONE = Row(15, "alone", Unit("M flows"), "1 M", "4 M", (Way(),))


def samples(row, device, *values, disturbed=()):
    return [Sample(row, device, value, number, {"load": 10 * value}, number in disturbed) for number, value in enumerate(values)]


def result(row, **of):
    return report.result(row, row.ways[0], [sample for device, values in of.items() for sample in samples(row, device, *values)])


def test_figure_is_median_and_spread():
    figure = report.figure(samples(SPEED, "nginx", 5, 1, 3))
    assert (figure.median, figure.least, figure.most, figure.used, figure.rounds, figure.disturbed) == (3, 1, 5, 3, 3, False)
    assert figure.details == {"load": 30}


def test_disturbed_rounds_are_left_out_while_two_others_are_left():
    figure = report.figure(samples(SPEED, "nginx", 1, 2, 3, 100, disturbed=[3]))
    assert (figure.median, figure.most, figure.used, figure.rounds, figure.disturbed) == (2, 3, 3, 4, False)
    figure = report.figure(samples(SPEED, "nginx", 1, 2, 3, disturbed=[0, 2]))
    assert (figure.median, figure.most, figure.used, figure.disturbed) == (2, 3, 3, True)
    of = report.result(SPEED, Way(), samples(SPEED, "nginx", 1, 2, 100, disturbed=[2]) + samples(SPEED, "haproxy", 4, 5, 6, disturbed=[0, 1]))
    assert [(of.figures[name].median, of.figures[name].used) for name in ("nginx", "haproxy")] == [(2, 3), (5, 3)]   # of all rounds of both


def test_rounds_with_the_cores_far_from_each_other_are_disturbed():
    of = samples(SPEED, "nginx", 1, 2, 3, 4)
    for sample, apart in zip(of, (500, 95, 120, 0)):   # the nearest need not be the first; 0 is not known
        sample.cores = Cores(apart)
    report.mark_far(of)
    assert [sample.disturbed for sample in of] == [True, False, False, False]
    of = samples(SPEED, "nginx", 1, 2, 3, 4)
    for sample, pace in zip(of, (500, 312, 380, 0)):   # another on the core's other hardware thread
        sample.cores = Cores(95, pace)
    report.mark_far(of)
    assert [sample.disturbed for sample in of] == [True, False, False, False]
    unknown = samples(SPEED, "nginx", 1, 2)
    report.mark_far(unknown)
    assert not any(sample.disturbed for sample in unknown)


class Machine:
    """Cores that are as far apart as it was told, one look after the other, and then as at the last; waiting takes no time."""

    def __init__(self, monkeypatch, *apart):
        self.apart, self.now = list(apart), 0.0
        monkeypatch.setattr(accounting.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(accounting.time, "sleep", self.sleep)

    def sleep(self, seconds):
        self.now += seconds

    def measured(self):
        return Cores(self.apart.pop(0) if len(self.apart) > 1 else self.apart[0])


@pytest.mark.parametrize("apart, waited", [
    ([70], 0), ([470, 470, 80], 1), ([0], 0),   # 0 is not known
    ([470], 40), ([250], 40)])                  # perhaps for good
def test_first_wait_is_for_cores_that_share_a_cache(monkeypatch, apart, waited):
    machine = Machine(monkeypatch, *apart)
    accounting.Nearness(machine.measured).wait(10)
    assert machine.now == pytest.approx(waited)


@pytest.mark.parametrize("apart, waited", [([70, 120], 0), ([70, 470, 470, 80], 1), ([70, 470], 10), ([200, 400], 0), ([470, 470], 0)])
def test_later_waits_are_for_cores_as_near_as_they_were(monkeypatch, apart, waited):
    machine = Machine(monkeypatch, *apart[1:])
    nearness = accounting.Nearness(machine.measured)
    nearness.near(Cores(apart[0]))
    nearness.wait(10)
    assert machine.now == pytest.approx(waited)


@pytest.mark.parametrize("looks, apart", [
    ([], 0), ([(1, 0), (2, 0)], 0),              # not known
    ([(1, 70), (2, 0), (3, 90)], 90), ([(moment, 70) for moment in range(9)] + [(9, 500)], 70), ([(moment, 70) for moment in range(8)] + [(8, 500), (9, 500)], 500),
    ([(0, 500), (5, 70), (6, 80), (9, 500)], 80)])
def test_a_distance_is_one_that_was_hardly_ever_exceeded_meanwhile(looks, apart):
    few = len(looks) == 4
    assert accounting.seen([(*look, 400 - moment) for moment, look in enumerate(looks)], *((5, 6) if few else ())).apart == apart


def test_pace_is_that_of_the_first_core_in_looks_that_are_known():
    looks = [(1, 70, 310), (2, 0, 900), (3, 90, 320)]
    assert accounting.seen(looks) == Cores(90, 320) and accounting.seen(looks, 0, 2) == Cores(70, 310) and accounting.seen(looks, 4) == Cores()


def test_cores_throughout_a_time_are_the_worst_that_were_seen_in_it_and_next_to_it():
    looks = accounting.Looks()
    looks.over()
    glance = accounting.GLANCE
    looks.told = [(at * glance, apart, pace) for at, (apart, pace) in enumerate([(500, 310), (90, 310), (80, 320), (80, 310), (85, 700), (0, 310), (80, 310)])]
    assert looks.throughout(2.5 * glance, 2.6 * glance) == Cores(80, 320)
    assert looks.throughout(1.5 * glance, 2.6 * glance) == Cores(90, 320)
    assert looks.throughout(2.5 * glance, 3.5 * glance) == Cores(85, 700)
    assert looks.throughout(4.5 * glance, 4.6 * glance) is None   # a look that failed
    assert looks.throughout(90 * glance, 91 * glance) is None     # none


def may_look():
    """Whether looks come before what polls on the cores, and may run there."""
    return {0, os.cpu_count() - 1} <= os.sched_getaffinity(0) and subprocess.run(["chrt", "-f", "1", "true"], capture_output=True).returncode == 0


needs_looks = pytest.mark.skipif(os.cpu_count() == 1 or not may_look(), reason="needs two cores, and the scheduling policy SCHED_FIFO")


@needs_looks
def test_a_look_that_nobody_reads_does_not_take_the_other_core():
    process = subprocess.Popen(accounting.distance_program(10), stdout=subprocess.PIPE)
    try:
        fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, 4096)   # full after two seconds
        time.sleep(4)
        before = accounting.process_seconds(process.pid)
        time.sleep(1)
        assert accounting.process_seconds(process.pid) - before < 0.6
    finally:
        process.kill()
        process.communicate()


@needs_looks
def test_cores_are_looked_at_while_they_are_busy():
    """By the program itself, also when something polls on the cores all the time: how often it gets them then is the machine's."""
    accounting.Awake.start()
    polling = [subprocess.Popen(["taskset", "-c", str(core), "sh", "-c", "while :; do :; done"]) for core in (0, os.cpu_count() - 1)]
    try:
        cores, until = Cores(), time.monotonic() + 60
        while cores.apart == 0 and time.monotonic() < until:
            looks, begun = accounting.Looks(), time.monotonic()
            time.sleep(1)
            cores = looks.over(begun, time.monotonic())
        assert cores.apart > 0 and cores.pace > 0
        assert accounting.Awake.process.poll() is None
    finally:
        for process in polling:
            process.kill()
            process.wait()
        accounting.Awake.stop()
    assert accounting.Awake.process is None


@needs_looks
def test_looks_of_a_measurement_that_failed_end_with_the_next():
    failed, next_one = accounting.Looks(), accounting.Looks()
    assert failed.process.poll() is not None and next_one.process.poll() is None
    next_one.over()
    assert accounting.Looks.running is None


def test_cores_that_are_kept_awake_count_as_idle():
    """Else a peer would be told to be busy all the time."""
    accounting.Awake.start()
    try:
        def looked():
            return accounting.process_seconds(accounting.Awake.process.pid), accounting.stat_times()["idle"]

        if accounting.Awake.process is not None:
            time.sleep(0.2)   # until it is behind others
            before = looked()
            time.sleep(1)
            after = looked()
            assert after[1] - before[1] > 0.8 * (after[0] - before[0]) - 0.05   # the clock's ticks
    finally:
        accounting.Awake.stop()


@pytest.mark.parametrize("tries, taken", [
    ([(False, 70)], 0), ([(True, 70), (False, 80)], 1), ([(False, 470), (True, 70), (False, 75)], 2), ([(False, 470)] * 9, 3), ([(False, 0)], 0)])
def test_what_was_disturbed_is_measured_again(tries, taken):
    nearness, of = accounting.Nearness(lambda: Cores(70)), samples(SPEED, "nginx", *range(len(tries)))
    nearness.near(Cores(70))
    for sample, (disturbed, apart) in zip(of, tries):
        sample.disturbed, sample.cores = disturbed, Cores(apart)
    left = iter(of)
    assert accounting.undisturbed(lambda: next(left), nearness, 1) is of[taken]


def test_waiting_and_measuring_again_take_no_longer_than_measuring(monkeypatch):
    """On a machine whose cores were near each other once and never again."""
    machine, patience, each = Machine(monkeypatch, 470), 10, 5
    nearness = accounting.Nearness(machine.measured)
    nearness.near(Cores(70))

    def take():
        machine.sleep(each)
        return Sample(SPEED, "nginx", 1, 0, cores=Cores(470))

    many = 200
    for _ in range(many):
        accounting.undisturbed(take, nearness, patience)
    assert machine.now > 1.9 * many * each   # it did try
    assert machine.now <= 2 * many * each + accounting.GRACE + patience + each


def test_a_device_that_fails_in_a_row_keeps_no_other_from_being_measured():
    bench = driver.Bench(None, type("Arguments", (), {"devices": [], "patience": 0, "quick": False}))

    class Measured(Way):
        @staticmethod
        def measure(bench, of):
            for number in range(3):
                for row, device in itertools.product(of, ("nginx", "haproxy")):
                    yield from bench.sample(row, device, lambda row=row, device=device, number=number: samples(row, device, take(row, device, number))[0])

    def take(row, device, number):
        if row is SPEED and device == "haproxy" and number == 1:
            raise LabError("no more")
        return 3

    failed, good = driver.measure(bench, [(SPEED, Measured()), (ALONE, Measured())])
    assert failed.why_not == "failed: haproxy: no more"
    assert {name: figure.rounds for name, figure in failed.figures.items()} == {"nginx": 3, "haproxy": 1}
    assert good.why_not == "" and {name: figure.rounds for name, figure in good.figures.items()} == {"nginx": 3, "haproxy": 3}


@pytest.mark.parametrize("row, ours, ratio, best, verdict", [
    (SPEED, 6, 1.5, "haproxy", "below the target"), (SPEED, 8, 2, "haproxy", "target reached"), (SPEED, 20, 5, "haproxy", "moonshot reached"),
    (SIZE, 1, 3, "nginx", "below the target"), (SIZE, 0.05, 60, "nginx", "moonshot reached")])
def test_ratio_is_to_the_best_peer_and_above_one_when_we_are_better(row, ours, ratio, best, verdict):
    of = result(row, nginx=[3], haproxy=[4], sallyport=[ours])
    assert list(of.figures) == ["sallyport", "nginx", "haproxy"]
    assert of.best_peer() == best and of.ratio(best) == pytest.approx(ratio) and of.verdict() == verdict
    assert f"ratio to {best}: {ratio:.2f}, the best peer: {verdict}" in report.text(of)


def test_no_peer_no_ratio():
    of = result(ALONE, sallyport=[1])
    assert of.best_peer() is None and of.verdict() == "" and "ratio" not in report.text(of)
    alone = result(SPEED, nginx=[1])   # ours was not asked for
    assert alone.ratio("nginx") is None and alone.verdict() == ""
    report.text(alone)


def test_json_has_what_its_readers_were_promised():
    shape = report.json_object(result(SPEED, sallyport=[7, 9, 8], nginx=[4], hitch=[3]), {"commit": "abc"})
    assert {name: shape[name] for name in ("row", "name", "unit", "ours", "peers", "ratio", "target", "moonshot", "spread")} == {
        "row": 8, "name": "speed <& more>", "unit": "k a second", "ours": 8, "peers": {"nginx": 4, "hitch": 3}, "ratio": 2, "target": "2x", "moonshot": "4x",
        "spread": {"sallyport": [7, 9], "nginx": [4, 4], "hitch": [3, 3]}}
    assert shape["environment"] == {"commit": "abc"} and shape["rounds"]["sallyport"] == [3, 3] and shape["conditions"] == "a test"
    alone = report.json_object(result(ALONE, sallyport=[1]), {})
    assert alone["ratio"] is None and alone["peers"] == {}
    not_measured = report.json_object(report.result(ALONE, Way(), [], "two cores"), {})
    assert not_measured["ours"] is None and not_measured["not_measured"] == "two cores"
    assert "not measured: two cores" in report.text(report.result(ALONE, Way(), [], "two cores"))


def circles(picture, colour):
    names = {"s": "http://www.w3.org/2000/svg"}
    found = ElementTree.fromstring(picture).findall("s:circle", names)
    return [float(circle.get("cx")) for circle in found if circle.get("fill") == colour][1:]   # the first is the legend's


def test_chart_shows_multiples_of_the_best_peer():
    of = [result(SPEED, sallyport=[8], nginx=[4]), result(SIZE, sallyport=[1], nginx=[8]), result(ALONE, sallyport=[5])]
    assert [chart.multiples(one) for one in of] == [{"sallyport": 2, "nginx": 1}, {"sallyport": 8, "nginx": 1}, {}]
    picture = chart.svg(of, "a caption & more")
    ours, nginx = (circles(picture, chart.COLOURS[name]) for name in ("sallyport", "nginx"))
    assert nginx[0] == nginx[1] < ours[0] < ours[1] < chart.WIDTH - chart.RIGHT
    assert ours[1] - nginx[1] == pytest.approx(3 * (ours[0] - nginx[0]), abs=0.3)   # 8 is 2 to the third
    assert "alone" not in picture
    assert chart.svg(of[2:], "nothing to show") is None


def test_chart_is_written_as_svg_and_png(tmp_path):
    written = chart.write(tmp_path / "ratios", [result(SPEED, sallyport=[8], nginx=[4])], "a caption")
    assert [file.name for file in written] == ["ratios.svg", "ratios.png"]
    assert written[1].read_bytes().startswith(b"\x89PNG")
    assert chart.write(tmp_path / "none", [result(ALONE, sallyport=[8])], "") == [] and not (tmp_path / "none.svg").exists()


def test_rows_that_are_asked_for():
    assert rows.asked("1,5-8") == [1, 5, 6, 7, 8]
    assert set(rows.asked("all")) == {row.number for row in rows.ROWS}
    for wrong in ("0", "26", "1-30", "x", ""):
        with pytest.raises(ValueError):
            rows.asked(wrong)


def test_the_table_is_consistent():
    for row in rows.ROWS:
        assert row.number in rows.NUMBERS and row.target and row.moonshot and row.ways
        for way in row.ways:
            assert callable(way.measure) and way.conditions
            assert set(getattr(way, "peers", ())) <= set(devices.PEERS)
    assert len({(row.number, row.title) for row in rows.ROWS}) == len(rows.ROWS)
    assert set(rows.QUICK) <= {row.number for row in rows.ROWS}


def test_loads_of_the_generator_are_alike_on_each_path():
    """What a row says of itself is what is asked of every device, wherever it is measured."""
    both = [(way, other) for row in rows.ROWS for way in row.ways if type(way) is links.Load for other in row.ways if type(other) in (memif.Load, memif.OverVirtio)]
    assert len(both) >= 30
    for on_links, own_path in both:
        assert on_links.options() == own_path.options() and on_links.peers == own_path.peers and on_links.flags == own_path.flags
        assert on_links.is_for(devices.OURS) and on_links.is_for("hitch") == ("hitch" in on_links.peers)


@pytest.mark.parametrize("option, load, added", [("links", links.Load, latency.Added), ("memif", memif.Load, latency.AddedOverMemif), ("virtio", memif.OverVirtio, latency.AddedOverVirtio)])
def test_the_path_that_is_asked_for_is_taken(option, load, added):
    arguments = types.SimpleNamespace(**{**dict.fromkeys(("links", "memif", "virtio"), False), option: True, "client": None, "only": ""})
    chosen = driver.choose([1, 17, 19], arguments)
    assert [(row.number, type(way)) for row, way in chosen] == [(1, load), (17, load), *6 * [(19, added)]]


def test_the_client_that_is_asked_for_is_taken():
    arguments = types.SimpleNamespace(links=False, memif=False, virtio=False, client="h2load", only="")
    (row, way), = driver.choose([5, 8, 14], arguments)
    assert (row.number, way.client, kernel.load_of(row)) == (5, "h2load", way) and "; h2load" in way.conditions


@pytest.mark.parametrize("number, option, only, told", [
    (5, "s_time", "", "Row 5, 1 KB on kept connections, TLS to TLS, 64 flows, is not measured with --client s_time."),
    (14, "h2load", "", "Row 14, memory of an idle flow, TLS to TLS, is not measured with --client h2load."),
    (15, "memif", "", "Row 15, idle flows held, each of which answers a probe at the end, is not measured with --memif."),
    (2, "links", "", "MTU 9000 over memif and virtio, is not measured with --generator."),
    (22, "", "7 ms", "--only '7 ms' is in no title"),
])
def test_what_cannot_be_measured_is_told(capsys, number, option, only, told):
    arguments = types.SimpleNamespace(**{**dict.fromkeys(("links", "memif", "virtio"), False), option: True, "client": option if option in clients.CLIENTS else None, "only": only})
    assert driver.choose([number], arguments) == []
    assert told in capsys.readouterr().out


def test_ports_of_a_generators_load():
    tls, plain = generated.Load(16, 1024, suite="TLS_AES_256_GCM_SHA384"), generated.Load(16, 1024, plain=True)
    assert [tls.port(devices.OURS), plain.port("nginx")] == [444, devices.PLAIN_PORT]
    assert tls.options()["backend_suite"] == tls.options()["suite"] == "TLS_AES_256_GCM_SHA384"
    assert generated.Load(16, 1024, plain=True, rsa=True).port("hitch") == devices.RSA_PORT
    resuming = generated.Load(16, 1024, peer_port=devices.RESUMING_PORT)
    assert [resuming.port(devices.OURS), resuming.port("nginx")] == [443, devices.RESUMING_PORT]


@pytest.mark.parametrize("each, taken", [(20, {1: 3, 14: 3}), (148, {1: 3, 14: 1}), (170, {1: 2, 14: 2}), (400, {1: 1, 14: 1})])
def test_quick_takes_no_more_rounds_than_end_in_time(monkeypatch, each, taken):
    """Of a group of four rows; the other's last round, which may be its only one, takes half as long."""
    now = [driver.BEGUN]
    monkeypatch.setattr(driver, "time", types.SimpleNamespace(monotonic=lambda: now[0]))

    class Four(Way):
        takes = 1

        @classmethod
        def measure(cls, bench, of):
            for number in bench.rounds():
                now[0] += each * cls.takes
                yield from (samples(row, devices.OURS, 1)[0] for row in of)

    class One(Four):
        takes = 0.5

    four = [(dataclasses.replace(SPEED, number=number), Four()) for number in (1, 3, 5, 8)]
    bench = driver.Bench(None, types.SimpleNamespace(quick=True, rounds=3, devices=[devices.OURS]))
    results = driver.measure(bench, [*four, (SIZE, One())])
    assert {of.row.number: of.figures[devices.OURS].rounds for of in results if of.row.number in taken} == taken
    assert now[0] - driver.BEGUN < 600 or each == 400   # there are not fewer rounds than one


@pytest.mark.parametrize("files, flows", [(20_000, 9000), (resource.RLIM_INFINITY, 10_000), (1 << 20, 10_000), (1024, generated.FEW)])
def test_a_peer_has_as_many_flows_as_it_may_have_files_open(monkeypatch, files, flows):
    monkeypatch.setattr(resource, "getrlimit", lambda of: (1024, files))
    bench = types.SimpleNamespace(rounds=lambda: range(1), devices=[devices.OURS, "nginx"])
    row = dataclasses.replace(SPEED, ways=(memif.Load(10_000, 1024),))
    assert [(name, load.connections) for _, name, mine in generated.rounds(bench, [row], memif.Load) for _, load in mine] == [(devices.OURS, 10_000), ("nginx", flows)]


def run_of(load, *negotiated, **window):
    return load.told(SPEED, type("Done", (), {"returncode": 0}), {"clients": {"negotiated": list(negotiated)}, "window": window})


def test_a_run_with_other_parameters_is_refused():
    agreed = {"version": "1.3", "suite": generated.AES_128, "group": "x25519", "resumed": False}
    once, again = generated.Load(16, 1024, "close"), generated.Load(16, 1024, "close", resumed=True)
    run_of(once, agreed, handshakes_per_second=100, resumed_per_second=0)
    run_of(again, agreed, handshakes_per_second=100, resumed_per_second=99)
    for load, change, resumed in ((once, {"group": "secp256r1"}, 0), (once, {"version": "1.2"}, 0), (once, {}, 1), (again, {}, 50)):
        with pytest.raises(LabError):
            run_of(load, {**agreed, **change}, handshakes_per_second=100, resumed_per_second=resumed)
    short = generated.Load(16, 1024, "close", version="1.2", suite="TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", resumed=True)   # has no key exchange
    run_of(short, {"version": "1.2", "suite": short.suite, "group": "", "resumed": True}, handshakes_per_second=100, resumed_per_second=100)


class Seen:
    """What Watch tells of a second in which the cores are near and fast from `near` to `far` alone."""

    def __init__(self, near, far):
        self.near, self.far, self.looks = near, far, self

    def throughout(self, began, ended):
        return Cores(*((80, 310) if self.near <= began and ended <= self.far else (600, 310)))

    @staticmethod
    def over(began, ended):
        return False, Cores(600, 310)


def spent(near, far):
    """Of a device that costs a third of its core at first, and two thirds from the middle of a second on; it answers ten a hundredth of a second, then twenty."""
    record = generated.Record(None, lambda before, after: {"core_seconds": (after["cost"] - before["cost"]) / 3})
    at = [100 + each / 20 for each in range(21)]
    record.looks = [(moment, {"cost": (moment - 100) + max(0, moment - 100.5), "core": {"busy": moment, "idle": 0, "steal": 0}}) for moment in at]
    marks = [100 + each / 100 for each in range(101)]
    course = [{"monotonic": moment, "messages": 1000 * (moment - 100) + 1000 * max(0, moment - 100.5), "opened": 64} for moment in marks]
    nearness = accounting.Nearness()
    return generated.Spent.of(generated.Load(64, 1024), {"began": 100, "ended": 101, "course": course}, record, Seen(near, far), nearness)


def test_cost_and_work_are_of_the_time_in_which_cores_were_near():
    early, late, none, short = spent(100, 100.5), spent(100.5, 101), spent(0, 0), spent(100.2, 100.6)
    assert (early.elapsed, early.messages, early.busy) == (pytest.approx(0.5), pytest.approx(1000), pytest.approx(1 / 3)) and early.cores == Cores(80, 310)
    assert (late.elapsed, late.messages, late.busy) == (pytest.approx(0.5), pytest.approx(2000), pytest.approx(2 / 3)) and late.cores == Cores(80, 310)
    for whole in none, short:   # shorter than what counts
        assert (whole.elapsed, whole.messages, whole.busy) == (pytest.approx(1), pytest.approx(1500), pytest.approx(0.5)) and whole.cores == Cores(600, 310)


def test_cost_of_pieces_is_that_of_all_of_them():
    """Clocks tick in hundredths of a second, so that no piece's own cost is known well."""
    record = generated.Record(None, lambda before, after: {"core_seconds": after["core"]["busy"] - before["core"]["busy"], "hz": after["hz"]})
    record.looks = [(float(second), {"core": {"busy": 10 * second}, "hz": 7}) for second in range(10)]
    pieces = record.between(2.5, 6.5)
    assert [(before[0], after[0]) for before, after in pieces] == [(3, 4), (4, 5), (5, 6)]
    assert record.cost_of(pieces) == {"core_seconds": 30, "hz": 7} and record.cost_of([pieces[0], pieces[2]]) == {"core_seconds": 20, "hz": 7}
    with pytest.raises(LabError):
        record.between(2.5, 3.5)


def test_a_piece_whose_times_are_told_late_does_not_count():
    def look(moment, busy, idle, steal):
        return moment, {"core": {"busy": busy, "idle": idle, "steal": steal}}

    first = look(10, 5, 3, 1)
    assert generated.whole((first, look(10.1, 5.06, 3.04, 1))) and generated.whole((first, look(10.1, 5.08, 3, 1.01)))
    assert not generated.whole((first, look(10.1, 5.06, 3.04, 1.6))) and not generated.whole((first, look(10.1, 5.01, 3, 1)))


def test_what_linux_does_to_receive_is_the_cost_of_who_receives():
    device = types.SimpleNamespace(sample=lambda: {"core": accounting.stat_times(0), "time": 0}, cost=devices.Peer.cost)
    assert set(links.sample_of(device)) == {"core", "time", "generator's core"}

    def sample(time, **softirqs):
        return {"time": time, **{name: {"idle": 0, "steal": 0, "softirq": softirq} for name, softirq in softirqs.items()}}

    before, after = sample(0, **{"core": 5, "generator's core": 7}), sample(10, **{"core": 6, "generator's core": 10})
    assert links.cost_of(device, before, after) == {"core_seconds": 12, "receiving_seconds": 3}


def test_what_was_measured_before_a_failure_is_told():
    of = report.result(SPEED, Way(), samples(SPEED, "nginx", 3), "failed: no more")
    assert "cut short: failed: no more" in report.text(of) and of.figures["nginx"].median == 3


def test_a_device_that_waited_is_marked():
    busy, waiting = (report.result(SPEED, Way(), [Sample(SPEED, "nginx", 1, 0, {report.DEVICE_BUSY: share})]) for share in (97, 60))
    assert "peer-bound" not in report.text(busy) and "peer-bound" in report.text(waiting)
