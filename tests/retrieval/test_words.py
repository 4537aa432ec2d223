"""Words: counts against a recount, a full-text index that is missing or behind, odd documents and questions, and a
search whose parts add up."""
import copy
import json
import pickle
import shutil
import threading
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from ragcun.models.encoder import GaussianEncoder
from ragcun.retrieval.hits import Batch, hits_text, matched_words
from ragcun.retrieval.no_answer import usual_rule
from ragcun.retrieval.retriever import GaussianRetriever
from ragcun.retrieval.stores import COUNTS, LanceStore, MemoryStore
from ragcun.retrieval.words import Question, Tokenizer, WordCounts, diversify, reciprocal_rank_fusion
from tiny_encoder import TinyEncoder

STEPS = st.lists(st.tuples(st.sampled_from(["add", "delete", "update", "newest"]), st.integers(0, 20),
                           st.integers(1, 6)), max_size=6)
ODD = ["the of and", "zyzzyva qwertz", "Привет мир", "中文 搜索", "สวัสดี", "???", "E22", "a" * 5000, "\U0001F600"]


class Blind(TinyEncoder):
    "Sees only the first two words."
    def _one(self, text):
        return super()._one(" ".join(text.split()[:2]))


def batch(start, n, seed):
    rng = np.random.default_rng(seed)
    ids = [f"d{i}" for i in range(start, start + n)]
    words = [" ".join(rng.choice(["ice", "sea", "bee", f"w{seed}"], 5)) for _ in ids]
    return Batch(ids, words, [{} for _ in ids], rng.standard_normal((n, 4)).astype(np.float32), words)


def change(store, step, seed):
    "One edit; `newest` removes the documents that came last and adds as many others."
    what, start, n = step
    b = batch(start, n, seed)
    known = store.ids()
    if what == "delete":
        store.delete(b.ids)
    elif what == "update":
        store.replace(b)
    else:
        if what == "newest":
            rows = sorted((f.row, f.id) for f in store.search(np.zeros((1, 4), np.float32), 99)[0])
            store.delete([name for _, name in rows[-n:]])
            b = batch(100 + 10 * seed, min(n, len(rows)), seed)
            known = store.ids()
        keep = [i for i, name in enumerate(b.ids) if name not in known]
        if keep:
            store.add(b.take(keep))


def right(store):
    counts = store.word_counts()
    want = WordCounts().add(w.split() for b in store.blocks() for w in b.words)
    found = {w: n for w, n in counts.found.items() if n}
    return (counts.documents, counts.words, found) == (want.documents, want.words, dict(want.found))


@pytest.mark.parametrize("written, asked", [
    ("قال مُحَمَّد اليوم", "محمد"), ("محـــمد", "محمد"), ("שָׁלוֹם לכם", "שלום"), ("בית־ספר", "ספר"),
    ("ދިވެހި", "ދިވެހި"), ("བོད་ཡིག", "བོད"),
    ("İstanbul'da", "istanbul"), ("Donau\u00addampfschiff", "Donaudampfschiff"), ("cafe\u0301", "CAFÉ")])
def test_points_and_marks_take_no_word_apart(written, asked):
    words = Tokenizer()
    assert words(asked)[0] in words(written) and all(len(w) > 1 for w in words(asked))     # "محمد" was ح, د and م
    assert matched_words(asked, written)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS, st.sampled_from(["kept", "stale", "missing", "damaged"]))
def test_counts_equal_a_recount(tmp_path_factory, steps, file):
    folder = tmp_path_factory.mktemp("s")
    stores = [MemoryStore(4), LanceStore(folder, 4)]
    reader = LanceStore(folder, 4)
    for seed, step in enumerate([("add", 0, 6), *steps]):
        for s in stores:
            change(s, step, seed)
        assert right(stores[0]) and right(stores[1])
        if seed == 0 or file == "kept":
            stores[1].keep_words()
            stores[1].keep_indexes()
            assert right(reader)
    if file == "missing":
        (folder/COUNTS).unlink()
    if file == "damaged":
        (folder/COUNTS).write_bytes((folder/COUNTS).read_bytes()[:50])
    assert right(LanceStore(folder, 4)) and right(reader)


def test_a_row_is_not_given_twice(tmp_path):
    store = LanceStore(tmp_path, 4)
    store.add(batch(0, 10, 0))
    store.keep_words()
    store.keep_indexes()
    reader = LanceStore(tmp_path, 4)
    assert right(reader)
    row = store.last_row()
    store.delete(["d7", "d8", "d9"])
    store.add(batch(20, 3, 5))
    assert store.added_since(row) == 3 and right(reader) and right(LanceStore(tmp_path, 4))


def test_long_words_and_other_scripts_are_in_the_full_text_index(tmp_path):
    store = LanceStore(tmp_path, 4)
    token = Tokenizer()
    names = ["a" * 40, "ы" * 21, "中文", "é" * 30, "b" * 39]
    words = [" ".join(token(n + " common")) for n in names]
    store.add(Batch(names, words, [{}] * 5, np.ones((5, 4), np.float32), words))
    store.keep_words()
    store.keep_indexes()
    assert "words" in store._indexes()
    for name in names:
        asked = Question.of(token(name), store.word_counts())
        assert [f.id for f in store.search_words(asked, 9)] == [name]


def test_fusion_by_hand():
    got = reciprocal_rank_fusion([["a", "b", "c"], ["c", "a"]], k=1)
    assert np.isclose(got["a"], 1 / 2 + 1 / 3) and np.isclose(got["c"], 1 / 4 + 1 / 2) and np.isclose(got["b"], 1 / 3)


def test_diversity_trades_score_for_difference():
    v = np.array([[1., 0], [.99, .01], [0, 1.]])
    assert (diversify(v, np.array([3., 2.9, 1.]), 2, .6) == [0, 2]
            and diversify(v, np.array([3., 2.9, 1.]), 2, 0) == [0, 1])


@pytest.fixture(params=["memory", "lance"])
def index(request, tmp_path):
    r = GaussianRetriever(Blind(), tmp_path/"i" if request.param == "lance" else None)
    r.add([{"id": f"d{i}", "text": f"topic{i % 7} part{i % 11} rest code{i}"} for i in range(150)])
    return r


def test_words_help_where_the_model_is_blind(index):
    assert max(index.search("code77", top_k=150), key=lambda h: h.words).id == "d77"
    rank = [[h.id for h in index.search("code77", top_k=150, words=w)].index("d77") for w in (0, 1, 4)]
    assert rank[0] > rank[1] >= rank[2] == 0
    hits = index.search("topic1 part2 code134", top_k=150).hits
    dense = {h.id: h.raw_evidence for h in index.search("topic1 part2 code134", top_k=150, words=0)}
    assert hits[0].id == "d134" and all(np.isclose(h.raw_evidence, dense[h.id], atol=1e-3) for h in hits)


def test_a_search_without_its_full_text_index_finds_the_same(tmp_path):
    index = GaussianRetriever(Blind(), tmp_path/"i")
    index.add([{"id": f"d{i}", "text": f"topic{i % 7} part{i % 11} rest code{i}"} for i in range(150)])
    before = index.search("topic1 code77", top_k=9).to_json()
    index.store.table.drop_index(index.store._indexes()["words"].name)
    assert "words" not in index.store._indexes()
    assert GaussianRetriever(Blind(), tmp_path/"i").search("topic1 code77", top_k=9).to_json() == before


@pytest.mark.parametrize("harm", ["gone", "damaged"])
def test_a_full_text_index_whose_files_are_broken_is_done_without(tmp_path, caplog, harm):
    index = GaussianRetriever(Blind(), tmp_path/"i")
    index.add([{"id": f"d{i}", "text": f"topic{i % 7} part{i % 11} rest code{i}"} for i in range(150)])
    before = index.search("topic1 code77", top_k=9).to_json()
    for folder in list(tmp_path.rglob("_indices")):
        if harm == "gone":
            shutil.rmtree(folder)
        for file in folder.rglob("*.lance"):
            file.write_bytes(file.read_bytes()[:40])
    caplog.clear()
    other = GaussianRetriever(Blind(), tmp_path/"i")
    assert other.search("topic1 code77", top_k=9).to_json() == before
    other.search("topic2 code9")
    assert [r.message for r in caplog.records if "full-text index of i cannot be read" in r.message] != []
    assert len([r for r in caplog.records if "full-text" in r.message]) == 1


def test_languages_of_one_letter_are_told_apart():
    tokenizer = Tokenizer()
    assert tokenizer("C++, C# (F#), c and g++.") == ["c++", "c", "c#", "c", "f#", "f", "c", "g++", "g"]
    assert tokenizer("issue#12 a+b i++j 5+ #1") == ["issu", "12", "b", "j", "5", "1"]
    assert Tokenizer(identifiers=False)("C++ and C#") == ["c", "c"]
    texts = [f"{name} gives memory back by hand" for name in ("C", "C++", "C#")]
    index = GaussianRetriever(TinyEncoder(64))
    index.add(texts)
    assert [index.search(f"memory in {t.split()[0]}", words=50)[0].text for t in texts[1:]] == texts[1:]


def test_documents_that_the_full_text_index_does_not_know_yet_are_found(tmp_path):
    index = GaussianRetriever(Blind(), tmp_path/"i")
    index.add([{"id": f"d{i}", "text": f"topic{i % 7} part{i % 11} rest code{i}"} for i in range(150)])
    store = index.store
    store.keep_words = lambda: None                             # killed before the words were brought up to date
    index.add([{"id": "late", "text": "topic9 part12 rest zebra"}])
    index.delete(["d77"])
    other = GaussianRetriever(Blind(), tmp_path/"i")
    asked = other.asked(["zebra"])[0]
    assert [f.id for f in other.store.search_words(asked, 9)] == ["late"] and other.store.word_counts().documents == 150
    assert other.store.search_words(other.asked(["code77"])[0], 9) == []
    assert max(other.search("zebra", top_k=150), key=lambda h: h.words).id == "late"


@pytest.mark.parametrize("question", ODD)
def test_odd_questions_get_finite_parts(index, question):
    result = index.search(question, top_k=5)
    assert len(result) == 5 and all(np.isfinite([h.evidence, h.p_value, h.e_value, h.words]).all() for h in result)
    assert all(h.words == 0 for h in result) and all(0 <= h.p_value <= 1 for h in result)


def test_a_word_ten_thousand_times_and_a_megabyte(index):
    index.add([{"id": "many", "text": "zebra " * 10_000}, {"id": "big", "text": "lorem ipsum " * 83_000},
               {"id": "one", "text": "zebra crossing near the school"}])
    result = index.search("zebra crossing", top_k=3)
    assert result[0].id == "one" and np.isfinite(result[0].evidence)
    assert index.search("ipsum", top_k=1)[0].id == "big"


def test_unrelated_questions_of_a_small_index_have_no_answer():
    index = GaussianRetriever(TinyEncoder(64))
    index.add([f"subject{i} verb{i} object{i} place{i} time{i}" for i in range(15)])
    asked = [f"other{i} thing{i} elsewhere{i} again{i}" for i in range(20)]
    assert sum(r.answered for r in index.search(asked)) <= 3
    found = index.search("subject3 verb3 object3 place3 time3")
    assert found.answered and found.tentative                   # right, and a guess all the same
    index.add([f"new{i} thing{i}" for i in range(100)])
    assert not index.search("subject3 verb3 object3 place3 time3").tentative


def test_threads_update_and_search_one_index():
    index = GaussianRetriever(TinyEncoder())
    index.add([{"id": f"d{i}", "text": f"ice sea w{i}"} for i in range(60)])
    faults = []
    end = threading.Event()
    def write():
        for i in range(40):
            index.update([{"id": f"d{i % 60}", "text": f"bee tree x{i}"}])
            index.delete([f"d{(i * 7) % 60}"])
        end.set()
    def ask():
        while not end.is_set():
            index.search("ice bee x3", top_k=5, diversity=.3)
    def caught(work):
        try:
            work()
        except Exception as e:
            faults.append(e)
            end.set()
    threads = [threading.Thread(target=caught, args=(w,)) for w in (write, ask)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    assert not faults and right(index.store)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"])
def test_an_index_in_memory_can_be_copied(copied):
    index = GaussianRetriever(TinyEncoder())
    index.add([f"ice sea w{i}" for i in range(30)])
    before = index.search("ice w3").to_json()
    other = copied(index)
    assert other.search("ice w3").to_json() == before
    other.add(["something new"])
    assert len(index) == 30 and len(other) == 31


def test_removals_and_replacements_are_counted_without_reading_everything(tmp_path, monkeypatch):
    store = LanceStore(tmp_path, 4)
    store.add(batch(0, 30, 0))
    store.keep_words()
    monkeypatch.setattr(LanceStore, "_count", lambda self: pytest.fail("counted anew"))
    store.delete(["d3", "d4", "nobody"])
    store.replace(batch(1, 2, 9))
    store.replace(batch(40, 2, 9))
    monkeypatch.undo()
    assert right(store)
    store.keep_words()
    assert right(LanceStore(tmp_path, 4))


def test_small_adds_do_not_pile_up_and_a_large_table_gets_an_approximate_index(tmp_path, monkeypatch):
    from ragcun.retrieval import stores
    monkeypatch.setattr(stores, "SMALL_FILES", 5)
    monkeypatch.setattr(stores, "ANN_FROM", 1000)
    store = LanceStore(tmp_path, 4)
    for i in range(12):
        store.add(batch(i, 1, i))
        store.keep_indexes()
    assert store._small_files() <= 6 and len(store) == 12 and not store.is_approximate()
    store.add(batch(12, 1000, 99))
    store.keep_indexes()
    assert store.is_approximate() and LanceStore(tmp_path, 4).is_approximate()
    near, exact = (store.search(np.ones((1, 4)), 5, exact)[0] for exact in (False, True))
    assert [f.id for f in near] == [f.id for f in exact]


def test_a_document_that_changes_again_and_again_does_not_fill_the_disk(tmp_path, monkeypatch):
    from ragcun.retrieval import stores
    monkeypatch.setattr(stores, "OLD_VERSIONS", 10)
    store = LanceStore(tmp_path, 4)
    store.add(batch(0, 9, 0))
    for i in range(15):
        store.replace(batch(3, 1, i))
        store.keep_indexes()
    assert len(store.table.list_versions()) > 15      # they may be read for an hour
    monkeypatch.setattr(stores, "KEPT", 1e-3)
    for i in range(30):
        store.replace(batch(3, 1, i))
        store.keep_indexes()
    assert len(store.table.list_versions()) < 30 and len(store) == 9


@pytest.mark.parametrize("written, asked", [
    ("It is _important_ to wait.", "important"), ("def _private(self): call __init__", "private init"),
    ("CONFIG_ is a prefix", "config"), ("set CONFIG_\u200bMAX in System.\u200bIO", "config_max system.io"),
    ("super\u2060visor and \ufeffvalve", "supervisor valve")])
def test_underscores_around_a_word_and_spaces_without_width_hide_no_word(written, asked):
    words = Tokenizer()
    assert set(words(asked)) <= set(words(written))
    assert [written[a:b] for a, b in matched_words(asked, written)]
    assert set(words("_private CONFIG_")) >= {"_privat", "config_"}       # as they are written, too


@pytest.mark.parametrize("asked", ["zurich", "zuerich", "Zürich"])
def test_a_word_is_found_with_other_accents(index, asked):
    index.add([{"id": "swiss", "text": "topic1 part2 Zürich"}, {"id": "plain", "text": "topic1 part2 Muller"}])
    hit = max(index.search(asked, top_k=200), key=lambda h: h.words)
    assert hit.id == "swiss" and hit.words > 0 and matched_words(asked, hit.text) == [(13, 19)]
    assert max(index.search("müller", top_k=200), key=lambda h: h.words).id == "plain"
    index.add([{"id": "spelled", "text": f"topic1 part2 {asked}"}])      # now there is one with these accents
    assert {h.id for h in index.search(asked, top_k=200) if h.words > 0} == (
        {"spelled"} if asked.isascii() else {"swiss", "spelled"})


def test_a_rule_counts_words_with_other_accents():
    rule = usual_rule(["le café", "un hôtel"], tokens=asdict(Tokenizer()))
    assert rule.coverage("cafe hotel", ["Un café à l'hôtel"]) == rule.coverage("café hôtel", ["Un café à l'hôtel"]) == 1
    assert rule.coverage("cafe hotel", ["Un café"]) == .5


GERMAN = [f"Der Abschnitt {i} beschreibt die Pumpen und Filter der Anlage, die regelmäßig gereinigt werden müssen."
          for i in range(12)]
ENGLISH = [f"Section {i} describes the pumps and filters of the plant, which have to be cleaned regularly."
           for i in range(12)]


@pytest.mark.parametrize("folder", [None, "i"])
def test_the_first_documents_decide_the_language_for_good(tmp_path, folder):
    place = folder and tmp_path/folder
    index = GaussianRetriever(TinyEncoder(), place)
    beside = GaussianRetriever(TinyEncoder(), place) if place else index     # opened before anything was decided
    index.add(GERMAN)
    beside.add(ENGLISH)
    assert index.tokenizer.stem == beside.tokenizer.stem == "german"
    assert any(h.words > 0 for h in beside.search("Pumpe Abschnitte"))
    kept = index.save(tmp_path/"copy")
    assert kept.tokenizer.stem == GaussianRetriever.open(tmp_path/"copy", TinyEncoder()).tokenizer.stem == "german"
    words = [w.split() for b in index.store.blocks() for w in b.words]
    assert words == [w.split() for b in kept.store.blocks() for w in b.words] and "pump" in words[0]


def test_an_empty_index_decides_nothing_and_a_stemmer_that_was_set_stays(tmp_path):
    index = GaussianRetriever(TinyEncoder(), tmp_path/"i")
    assert GaussianRetriever.open(tmp_path/"i", TinyEncoder()).tokenizer.stem == "auto"
    index.tokenizer = Tokenizer(stem=None)
    index.add(GERMAN)
    assert GaussianRetriever.open(tmp_path/"i", TinyEncoder()).tokenizer.stem is None
    late = GaussianRetriever(TinyEncoder(), tmp_path/"late")
    beside = GaussianRetriever(TinyEncoder(), tmp_path/"late")
    late.add(GERMAN)
    beside._write_manifest()                 # by one that does not know yet
    assert GaussianRetriever.open(tmp_path/"late", TinyEncoder()).tokenizer.stem == "german"


def test_versions_are_found_by_their_beginnings():
    tokenizer = Tokenizer()
    assert tokenizer("v2.3.1") == tokenizer("2.3.1") == ["2.3.1", "2.3", "2"]
    assert tokenizer("3.1.0rc1 3.14") == ["3.1.0rc1", "3.1.0", "3.1", "3", "3.14", "3"]
    assert tokenizer("31.12.2021") == ["31.12.2021", "31.12", "31", "2021"]
    assert tokenizer("1.x os.path v2 § 4") == ["1.x", "1", "x", "os.path", "os", "path", "v2", "§", "4"]
    texts = [f"Version {v}. A release with mended faults." for v in ("2.3.0", "3.2.1", "1.3.2", "2.3.1", "3.1.2")]
    index = GaussianRetriever(TinyEncoder(64))
    index.add(texts)
    assert [index.search(f"what is new in {v}", words=50)[0].text for v in ("2.3.1", "v3.1.2")] == texts[3:]


def test_a_typing_error_is_corrected_and_said():
    index = GaussianRetriever(GaussianEncoder.from_base(device="cpu", precision="no"))
    index.add({"leaf": "Photosynthesis turns light into sugar.", "rock": "Granite is a rock of quartz and feldspar.",
               "sea": "Salt comes into the sea by rivers."})
    asked, right = "what is photosyntesis", "what is photosynthesis"
    result, other = index.search([asked, right])
    assert result.query == asked and result.corrected == right == result.to_json()["corrected"]
    assert other.corrected is None and [h.evidence for h in result] == [h.evidence for h in other]
    assert result[0].id == "leaf" and f"searched for: {right}" in hits_text(result)
    assert index.answer_values([asked]) == index.answer_values([right])
    as_written = index.search(asked, as_written=True)
    assert as_written.corrected is None and as_written[0].words == 0 < result[0].words
    assert index.search("granit", top_k=1)[0].words > 0            # what the base knows, or the stemmer, is no error
    again = copy.deepcopy(index)                                      # with what it keeps of words
    again.add({"odd": "A photosyntesis is a typing error."})
    assert again.search(asked).corrected is None and index.search(asked).corrected == right


KOREAN = ["휴가 신청서는 인사팀에 제출하세요.", "김치찌개에는 돼지고기와 두부가 들어갑니다.",
          "지하철은 자정에 운행을 마칩니다."]


def test_korean_words_are_found_without_their_particles(tmp_path):
    index = GaussianRetriever(TinyEncoder(), tmp_path/"i")
    index.add(KOREAN)
    index = GaussianRetriever.open(tmp_path/"i", TinyEncoder())
    for question, text in zip(("신청서", "돼지고기 요리", "지하철"), KOREAN, strict=True):
        assert [h.text for h in index.search(question) if h.words > 0] == [text]
    text = KOREAN[1]
    assert [text[a:b] for a, b in matched_words("돼지고기", text, index.tokenizer)] == ["돼지고기"]


def test_an_index_of_before_keeps_its_korean_words_whole(tmp_path):
    index = GaussianRetriever(TinyEncoder(), tmp_path/"i")
    index.tokenizer = Tokenizer()
    index.add(KOREAN)
    place = tmp_path/"i"/"manifest.json"
    manifest = json.loads(place.read_text(encoding="utf-8"))
    del manifest["tokens"]["hangul"]
    place.write_text(json.dumps(manifest), encoding="utf-8")
    index = GaussianRetriever.open(tmp_path/"i", TinyEncoder())
    hit = max(index.search("신청서는 어디에"), key=lambda h: h.words)
    assert hit.text == KOREAN[0] and hit.words > 0
    assert matched_words("신청서는", hit.text, index.tokenizer) == [(3, 7)]


@pytest.mark.parametrize("written, asked", [
    ("٢٥ ديناراً", "25"), ("25 dinars", "٢٥"), ("१२ महीने", "12"), ("أحمد", "احمد"), ("احمد", "أحمد"),
    ("المدرسة", "المدرسه"), ("کتاب", "كتاب"), ("على", "علي")])
def test_digits_and_arabic_letters_are_found_as_others_write_them(written, asked):
    index = GaussianRetriever(TinyEncoder())
    index.add({"right": written, "other": "nothing of it"})
    assert [h.id for h in index.search(asked) if h.words > 0] == ["right"]
    assert matched_words(asked, written)
