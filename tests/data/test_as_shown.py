"""Files as programs write them: all that a person sees of them is read, and nothing else."""
import io
import json

import docx
import pytest
from docx.oxml import parse_xml
from small import archive, pdf_bytes

from ragcun.data import web_pages
from ragcun.data.decoding import decode_bytes
from ragcun.data.documents import passages, section_documents
from ragcun.data.markup import parse_markdown, parse_notebook, parse_rst, parse_text
from ragcun.data.other_markup import parse_asciidoc, parse_latex
from ragcun.data.office import parse_docx, parse_odf, parse_rtf, parse_slides, xml_kind
from ragcun.data.office import parse_xml as parse_xml_document
from ragcun.data.pdf import parse_pdf
from ragcun.data.structured import parse_json_rows
from ragcun.data.web_pages import Section, parse_html


def told(sections):
    return [(s.heading, s.text) for s in sections]


# web pages


@pytest.mark.parametrize("page, wanted", [
    ("<table><tr><td data-line-number=1></td><td>a = 1</td></tr><tr><td data-line-number=2></td><td>b</td></tr></table>",
     "a = 1\nb"),                                                                     # code as GitHub shows it
    ("<my-card><template shadowrootmode=open><p>One.<x-y><template shadowrootmode='open'>Two.</template></x-y></template>"
     "</my-card><template><p>not shown</p></template>", "One.\n\nTwo."),              # as a browser's extension saves it
    ("<p>Text.</p><div id='onetrust-consent-sdk'><p>We use cookies.</p><button>Accept all</button></div>", "Text."),
    ("<div class='cookie-notice'><h1>On cookies</h1><p>They are baked.</p></div>", "They are baked."),
    ("<div class='window'><p>Text.</p></div><div class='cc-window cc-banner'>We use cookies.</div>", "Text."),
])
def test_pages_as_they_are_saved(page, wanted):
    assert [s.text for s in parse_html(page)] == [wanted]


def test_a_document_of_google_has_its_title():
    page = ("<html><body class='c1 doc-content'><div><p>Draft</p></div><p class='c2 title' id='h.a'><span class='c3'>Pumps</span></p>"
            "<h1 id='h.b'>Seals</h1><p>They fail.<sup><a href='#ftnt1'>[1]</a></sup></p></body></html>").replace("'", '"')
    assert [(s.heading, s.level, s.text) for s in parse_html(page)] == [
        ("", 0, "Draft"), ("Pumps", 1, ""), ("Seals", 2, "They fail.[1]")]
    assert [s.heading for s in parse_html(page.replace("doc-content", "x"))] == ["", "Seals"]


MACRO = '<ac:structured-macro ac:name="{}" ac:schema-version="1"><ac:parameter ac:name="{}">{}</ac:parameter>{}</ac:structured-macro>'
STORED = ("<h2>Steps</h2>" + MACRO.format("code", "language", "bash", "<ac:plain-text-body><![CDATA[if a < b:\n  run]]></ac:plain-text-body>")
          + MACRO.format("info", "title", "Mind it", "<ac:rich-text-body><p>It is hot.</p></ac:rich-text-body>")
          + '<p>See <ac:link><ri:page ri:content-title="Oil" /><ac:plain-text-link-body><![CDATA[the oil]]></ac:plain-text-link-body></ac:link> and '
          + '<ac:link><ri:page ri:content-title="The lid" ri:version-at-save="2"/></ac:link>.</p><ac:task-list><ac:task><ac:task-id>1</ac:task-id>'
          + "<ac:task-status>incomplete</ac:task-status><ac:task-body>Order it</ac:task-body></ac:task></ac:task-list>"
          + '<ac:image ac:width="200"><ri:attachment ri:filename="a.png" /></ac:image><p>End.</p>')


def test_a_page_as_confluence_keeps_it():
    wanted = "if a < b:\n  run\n\nMind it\n\nIt is hot.\n\nSee the oil and The lid.\n\nOrder it\n\nEnd."
    assert told(parse_html(STORED)) == [("Steps", wanted)]
    assert wanted in parse_json_rows(json.dumps([{"title": "Pump", "body": {"storage": {"value": STORED}}}]))[0].text


def test_menus_within_menus_are_looked_through_for_links_to_some_depth(monkeypatch):
    looked = []
    monkeypatch.setattr(web_pages, "_is_menu", lambda node, inside: looked.append(node))
    assert [s.text for s in parse_html("<header>"*3000 + "words" + "</header>"*3000)] == ["words"]
    assert len(looked) < 300      # each looks through all that is below it


# Markdown


FIELDS = "id: {0}\nparent_id: {0}\nis_todo: 0\nsource_url: \ntype_: 1".format("0f1e2d3c4b5a6978"*2)


@pytest.mark.parametrize("source, wanted", [
    ("<aside>\n💡 Bleed **it** [now](x.md).\n\n</aside>\n\nEnd.", [("", "💡 Bleed it now.\n\nEnd.")]),             # Notion
    ("```html\n<aside>\n**x**\n</aside>\n```", [("", "<aside>\n**x**\n</aside>")]),
    (f"Seals\n\nThey *fail*.\n\n{FIELDS}", [("Seals", "They fail.")]),                                               # Joplin
    ("Seals\n\nid: 7\ntype_: 1", [("", "Seals\n\nid: 7 type_: 1")]),
    ("title:: Seals\ntags:: oil\n\n- Why it failed\n  id:: 64a1b2c3-1234-4abc-9def-0123456789ab\n\t- Dry {{cloze x}}\n\t  collapsed:: true\n"
     "- {{query (task TODO)}}\n- TODO Oil it\n  owner:: Ann\n  :LOGBOOK:\n  CLOCK: [x]\n  :END:",
     [("Seals", "Why it failed\nDry {{cloze x}}\nTODO Oil it owner: Ann")]),                                          # Logseq
    ("alias:: oil, lid\nicon:: x\n\n- One\n- query-table:: true\n  #+BEGIN_QUERY\n  {:query x}\n  #+END_QUERY\n- Two", [("", "alias: oil, lid\n\nOne\nTwo")]),
    ("Oil\\index{oil} it.", [("", "Oil it.")]),
    ("# (PART) One {-}\n\nSee Figure \\@ref(fig:leak).\n\n\\newpage\n\nEnd.", [("One", "See Figure.\n\nEnd.")]),    # bookdown
    ("::: code-tabs#shell\n\n@tab npm\n\n```bash\nnpm i\n```\n\n@tab:active pnpm#p\n\n```bash\npnpm i\n```\n\n:::\n",
     [("", "npm\n\nnpm i\n\npnpm\n\npnpm i")]),                                                                    # VuePress
    ("{{< card\n  title=\"Seals\"\n  link=\"x\"\n>}}\nThey fail.\n{{< /card >}}", [("", "Seals They fail.")]),      # Hugo
    ("| a | b |\n|---|---|\n| 1 | 2 |\n{.wide .dark}\n\nEnd.", [("", "a | b\n1 | 2\n\nEnd.")]),
    ("A ![Untitled](x/Untitled.png) ![pump.png](pump.png) ![The image](a.png)", [("", "A The image")]),
    ("A.\n\n<Video src='x.mp4' />\n\nB.", [("", "A.\n\nB.")]),
])
def test_marks_of_programs_for_notes_and_sites_are_not_read(source, wanted):
    assert told(parse_markdown(source)) == wanted


def test_what_mdx_exports_is_code():
    text = "# A\n\nexport const Box = ({ x }) => {\n  const y = x\n\n  return (\n    <p>{y}</p>\n  )\n}\n\nText.\n\n```js\nexport const z = {\n```\n"
    assert told(parse_markdown(text, mdx=True)) == [("A", "Text.\n\nexport const z = {")]
    assert "is open" in told(parse_markdown("export const Box = {\n\nis open.", mdx=True))[0][1]


@pytest.mark.parametrize("source, wanted", [
    ("%md\n## Seals\n\nThey *fail*.", [("Seals", "They fail.")]), ("%%markdown\nThey *fail*.", [("", "They fail.")]),
    ('#@title Make it { display-mode: "form" }\n#@markdown Choose the *bar*.\nbar = 5 #@param', [("", "Make it Choose the bar.")]),
    ("%matplotlib inline\nx = 1  # no text", [])])
def test_text_in_cells_of_code_is_read(source, wanted):
    assert told(parse_notebook(json.dumps({"cells": [{"cell_type": "code", "source": source}]}))) == wanted


def test_the_key_in_the_name_of_an_exported_table_is_no_title():
    tables = [f"Open tasks {'0f1e2d3c4b5a6978'*2}{end}.csv" for end in ("", "_all")]
    assert [section_documents([Section("", "a | b")], name)[0].title for name in tables] == ["Open tasks", "Open tasks"]


@pytest.mark.parametrize("source, wanted", [
    ("* See\n  xref:a.adoc[the lid] and\n  *oil*.\n* End.", "See\nthe lid and\noil.\nEnd."),
    ("* Run:\n\n  *as* it\n  stands\n\nEnd.", "Run:\n\n  *as* it\n  stands\n\nEnd."),
    ("[cols=\"1,2\"]\n|===\n| Name | About\n\n| `id`\n| The name of\n  xref:a.adoc[the pump].\n\n  It is red.\n|===", "Name | About\nid | The name of the pump. It is red."),
    ("[cols=\"1,2\"]\n|===\n| Name| About\n|a\\|b|c\n|===", "Name | About\na|b | c"),
    ("* One\n  ** Two\n  . Three\n  four:: five", "One\nTwo\n1. Three\nfour: five")])
def test_lines_of_asciidoc_that_go_on_further_in_are_text(source, wanted):
    assert told(parse_asciidoc(source)) == [("", wanted)]


# XML

RFC = """<?xml version="1.0"?><?rfc toc="yes"?><!-- draft --><rfc><front><title>Pumps</title><author fullname="Ann"/><abstract><t>On pumps.</t></abstract>
</front><middle><section title="Seals" anchor="s"><t>They fail, see <xref target="t"/> and <xref target="X1"/>.</t></section>
<section anchor="t"><name>Oil</name><sourcecode><![CDATA[a < b]]></sourcecode></section></middle><back><references/></back></rfc>"""
AKN = """<akomaNtoso><act><meta><FRBRWork/></meta><preface><longTitle><p>An Act on <docTitle>Pumps</docTitle></p></longTitle></preface><body>
<part><num>Part 1</num><heading>Seals</heading><section><num>1.</num><heading>Duty</heading><subsection><num>(1)</num><content>
<p>Oil it.</p></content></subsection></section></part></body></act></akomaNtoso>"""
USLM = """<pLaw xmlns="http://schemas.gpo.gov/xml/uslm"><meta><dc:title xmlns:dc="d">Law 7</dc:title><x>y</x></meta><main><title><num>I</num>
<heading>SEALS</heading><section><num>§ 1.</num><chapeau>Oil:</chapeau><paragraph><num>(a)</num><content>the lid</content></paragraph></section>
</title></main></pLaw>"""
GII = """<dokumente><norm><metadaten><jurabk>PumpG</jurabk><langue>Gesetz über Pumpen</langue></metadaten></norm><norm><metadaten>
<enbez>§ 1</enbez><titel>Öl</titel></metadaten><textdaten><text><Content><P>(1) Es ist dünn.</P></Content></text></textdaten></norm></dokumente>"""
PAPERS = """<PubmedArticleSet><PubmedArticle><MedlineCitation><PMID>7</PMID><Article><Journal><JournalIssue><PubDate><Year>2020</Year></PubDate>
</JournalIssue><Title>J Pumps</Title></Journal><ArticleTitle>Seals in <i>cold</i>.</ArticleTitle><Abstract><AbstractText Label="RESULTS">They
fail.</AbstractText></Abstract><AuthorList><Author><LastName>Lund</LastName><ForeName>Ann</ForeName></Author></AuthorList></Article>
<MeshHeadingList><MeshHeading><DescriptorName>Oils</DescriptorName></MeshHeading></MeshHeadingList></MedlineCitation></PubmedArticle></PubmedArticleSet>"""
POSTS = """<posts><row Id="1" PostTypeId="1" Title="It leaks" Tags="&lt;oil&gt;" Body="&lt;p&gt;Since &lt;b&gt;noon&lt;/b&gt;.&lt;/p&gt;" />
<row Id="3" PostTypeId="2" ParentId="9" Body="&lt;p&gt;Alone.&lt;/p&gt;" /><row Id="2" PostTypeId="2" ParentId="1" Body="&lt;p&gt;Oil it.&lt;/p&gt;" /></posts>"""


@pytest.mark.parametrize("text, wanted", [
    (RFC, [("Pumps", "On pumps."), ("Seals", "They fail, see Oil and X1."), ("Oil", "a < b")]),
    (AKN, [("Pumps", "An Act on Pumps"), ("1. Duty", "(1) Oil it.")]),
    (USLM, [("Law 7", ""), ("§ 1.", "Oil:\n\n(a) the lid")]),
    (GII, [("Gesetz über Pumpen", ""), ("§ 1 Öl", "(1) Es ist dünn.")]),
    (PAPERS, [("Seals in cold.", "Lund Ann. J Pumps. 2020. PMID 7\n\nResults: They fail.\n\nOils")]),
    (POSTS, [("It leaks", "Since noon.\n\nOil it."), ("", "Alone.")])])
def test_laws_papers_and_posts_in_xml(text, wanted):
    assert xml_kind(text.encode()) == ".docbook"
    found = parse_xml_document(text.encode())
    assert told(found) == wanted and (text != AKN or found[-1].path == ("Pumps", "Part 1 Seals"))


@pytest.mark.parametrize("text", ["<bill><total>7</total><item><title>A</title></item></bill>", '<posts><row Id="1" Count="3"/></posts>', "<rfc><a/></rfc>"])
def test_data_in_xml_is_no_law(text):
    assert xml_kind(text.encode()) == ""


def test_options_of_a_setting_hold_roles():
    text = ".. confval:: language\n   :type: :code-py:`str`\n   :default: ``en``, or :ref:`none <x>`\n\n   Which."
    assert told(parse_rst(text)) == [("", "language\n\ntype: str\n\ndefault: en, or none\n\nWhich.")]


def test_pages_that_wikiextractor_has_taken_from_a_dump():
    page = '<doc id="{}" url="https://x" title="{}">\n{}\n\n{}\n\n</doc>\n'
    text = page.format(1, "Q&amp;A", "Q&amp;A", "It is &lt;b&gt;.") + page.format(2, "Oil", "Oil", "It is thin.\n\nIt burns.")
    assert told(parse_text(text)) == [("Q&A", "It is <b>."), ("Oil", "It is thin.\n\nIt burns.")]
    assert told(parse_text('<doc id="1" title="Open">\nText.')) == [("", '<doc id="1" title="Open">\nText.')]


# Word

NAMES = ('xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"')


def word_text(paragraph):
    document = docx.Document()
    document.element.body.insert(0, parse_xml(f"<w:p {NAMES}>{paragraph}</w:p>"))
    made = io.BytesIO()
    document.save(made)
    return " ".join(s.text for s in parse_docx(made.getvalue()))


def run(text):
    return f"<w:r><w:t>{text}</w:t></w:r>"


def mark(kind, inner=""):
    return f'<w:r><w:fldChar w:fldCharType="{kind}">{inner}</w:fldChar></w:r>'


CODE = "<w:r><w:instrText> IF x </w:instrText></w:r>"
LIST = '<w:ffData><w:ddList><w:result w:val="1"/><w:listEntry w:val="Red"/><w:listEntry w:val="Blue"/></w:ddList></w:ffData>'


@pytest.mark.parametrize("paragraph, wanted", [
    (f"{mark('begin')}{CODE}{mark('begin')}{CODE}{mark('separate')}{run('code')}{mark('end')}{mark('separate')}{run('shown')}"
     f"{mark('end')}{run(' on')}", "shown on"),                                       # a field within another's code
    (f"{mark('begin', LIST)}{CODE}{mark('end')}", "Blue"),
    (mark("begin", "<w:ffData><w:checkBox><w:checked/></w:checkBox></w:ffData>") + mark("end") + run(" agreed"), "☒ agreed"),
    (mark("begin", '<w:ffData><w:checkBox><w:default w:val="0"/></w:checkBox></w:ffData>') + mark("end") + run(" no"), "☐ no"),
    (f"<w:r><w:ruby><w:rubyPr/><w:rt>{run('kan')}</w:rt><w:rubyBase>{run('漢')}</w:rubyBase></w:ruby></w:r>", "漢kan"),
])
def test_fields_and_readings_of_a_word_file(paragraph, wanted):
    assert word_text(paragraph) == wanted


def test_a_field_that_is_never_closed_hides_no_other_paragraph():
    document = docx.Document()
    document.element.body.insert(0, parse_xml(f"<w:p {NAMES}>{mark('begin')}{CODE}{run('code')}</w:p>"))
    document.add_paragraph("Shown.")
    made = io.BytesIO()
    document.save(made)
    assert told(parse_docx(made.getvalue())) == [("", "Shown.")]


# OpenDocument and slides


def odf(body, kind="text", styles="", others=""):
    return parse_odf(archive({
        "content.xml": f"<d><automatic-styles>{styles}</automatic-styles><body><{kind}>{body}</{kind}></body></d>",
        "styles.xml": f"<d><master-page>{others}</master-page></d>",
        "meta.xml": "<d><meta><title>Pumps of 2024</title></meta></d>"}))


@pytest.mark.parametrize("body, wanted", [
    ('<section display="none"><p>hidden</p></section><section><p>x</p></section>', [("Pumps of 2024", "x")]),
    ('<p><hidden-paragraph is-hidden="true"/>hidden</p><p>x</p>', [("Pumps of 2024", "x")]),
    ("<p>x <placeholder>Click</placeholder></p>", [("Pumps of 2024", "x")]),
    ("<p><frame><image/><title>Pump</title><desc>A red one</desc></frame></p>", [("Pumps of 2024", "Pump A red one")]),
    ('<h outline-level="1">Own</h><p>x</p>', [("Own", "x")]),
])
def test_an_opendocument_text(body, wanted):
    assert told(odf(body)) == wanted
    edges = "<header><p>Draft</p></header><header-left><p>Draft</p></header-left><footer><p>ACME</p></footer>"
    assert told(odf(body, others=edges)) == [*wanted, ("", "Draft\nACME")]


def test_raised_letters_and_code_of_opendocument():
    styles = ('<style name="T1"><text-properties text-position="super 58%"/></style><style name="T2"><text-properties '
              'text-position="sub 58%"/></style><style name="P1" parent-style-name="Preformatted_20_Text"/>'
              '<style name="Preformatted_20_Text"/>')
    body = ('<p>10<span style-name="T1">6</span> Pa, H<span style-name="T2">2</span>O<span style-name="T1">+</span></p>'
            '<p style-name="P1">if a:</p><p style-name="P1"><s c="4"/>b = 1</p><p>End.</p>')
    assert told(odf(body, styles=styles)) == [("Pumps of 2024", "10^6 Pa, H2O+\n\nif a:\n    b = 1\n\nEnd.")]
    assert told(odf("<p>x</p>", others="<footer><p>1</p></footer>")) == [("Pumps of 2024", "x")]


def test_formulas_and_charts_of_opendocument():
    formula = '<math xmlns="http://www.w3.org/1998/Math/MathML"><mi>P</mi><mo>=</mo><mi>g</mi><mi>H</mi></math>'
    chart = '<c xmlns:chart="urn:oasis:names:tc:opendocument:xmlns:chart:1.0"><chart:title><p>Bars by month</p></chart:title><p>no</p></c>'
    found = parse_odf(archive({
        "content.xml": '<d><body><text><h outline-level="1">Pump</h><p>The <frame><object href="./Object 1"/></frame> holds.</p>'
                       '<p><frame><object href="Object 2"/></frame></p><p><object href="gone"/>x</p></text></body></d>',
        "Object 1/content.xml": formula, "Object 2/content.xml": chart}))
    assert told(found) == [("Pump", "The P=gH holds.\n\nBars by month\n\nx")]


def test_a_deck_has_the_title_of_its_properties_and_its_powers():
    runs = '<r><t>10</t></r><r><rPr baseline="30000"/><t>6</t></r><r><t> Pa, H</t></r><r><rPr baseline="-25000"/><t>2</t></r>'
    parts = {"ppt/presentation.xml": '<p xmlns:r="r"><sldId r:id="r0"/></p>',
             "ppt/_rels/presentation.xml.rels": '<l><l Id="r0" Target="s/1.xml"/></l>',
             "ppt/s/1.xml": f"<s><sp><p>{runs}</p></sp></s>"}
    for title, wanted in (("Pump Days", [("Pump Days", "")]), ("PowerPoint Presentation", []), ("", [])):
        core = f'<c xmlns:dc="d"><dc:title>{title}</dc:title></c>'
        assert told(parse_slides(archive({**parts, "docProps/core.xml": core}))) == [*wanted, ("", "10^6 Pa, H2")]


def test_hidden_sheets_of_opendocument():
    sheet = '<table name="{0}" style-name="{0}"><table-row><table-cell><p>{0}</p></table-cell></table-row></table>'.format
    styles = '<style name="Secret"><table-properties display="false"/></style><style name="Prices"><table-properties/></style>'
    assert told(odf(sheet("Prices") + sheet("Secret"), "spreadsheet", styles)) == [("Prices", "Prices")]


def test_slides_of_opendocument_have_titles_and_numbers():
    def frame(kind, text):
        return f'<frame class="{kind}"><text-box><p>{text}</p></text-box></frame>'
    found = odf(f"<page>{frame('title', 'One')}{frame('outline', 'a')}{frame('page-number', '1')}"
                f"<notes>{frame('notes', 'Say it.')}</notes></page><page/><page>{frame('title', 'Three')}</page>", "presentation")
    assert [(s.heading, s.text, s.page) for s in found] == [("One", "a\n\nSay it.", 1), ("Three", "Three", 3)]


def test_a_hidden_shape_of_a_slide_is_not_read():
    names = 'xmlns:p="p" xmlns:a="a" xmlns:r="r"'
    shape = '<p:sp><p:cNvPr hidden="{}"/><a:p><a:r><a:t>{}</a:t></a:r></a:p></p:sp>'.format
    found = parse_slides(archive({
        "ppt/presentation.xml": f"<p:x {names}><p:sldId r:id='a'/></p:x>",
        "ppt/_rels/presentation.xml.rels": "<R><R Id='a' Target='slides/1.xml'/></R>",
        "ppt/slides/1.xml": f"<p:x {names}>{shape(1, 'hidden')}{shape(0, 'shown')}</p:x>"}))
    assert told(found) == [("", "shown")]


# markup


@pytest.mark.parametrize("text, wanted", [
    ('<Note>Mind the lid.</Note>', "Mind the lid."),
    ('Use <Highlight color="red">green</Highlight> {/* not shown */} oil.', "Use green  oil."),
    ('<Accordion title="Why?">Because.</Accordion>', "Why? Because."),
    ('<ParamField path="id" type="string" required>\n  The id.\n</ParamField>', "id string\n\nThe id."),
    ('<LinkCard title="Read" href="/x" description="More of it" />', "Read More of it"),
    ("`<Note>x</Note>` of List<Item>", "<Note>x</Note> of List<Item>"),
    ("H~2~O and 10^6^ in [small]{.smallcaps} ^[a note]", "H2O and 10^6 in small  (a note)"),
    ("The HTML.\n\n*[HTML]: Hyper Text", "The HTML.\n\nHTML: Hyper Text"),
    ("* TOC\n{:toc}\n\n{: .note }\nMind the lid.", "Mind the lid."),
    ("| Line one\n| line two", "Line one line two"),
    ('```{r, echo=FALSE, fig.cap="Oil by year"}\nplot(x)\n```', "Oil by year\n\nplot(x)"),
    ("~~gone~~ and ~/a~b, x^y", "gone and ~/a~b, x^y"),
])
def test_dialects_of_markdown(text, wanted):
    assert "\n\n".join(s.text for s in parse_markdown(text)).replace("  ", " ") == wanted.replace("  ", " ")


def test_kinds_of_parameters_stand_apart_from_their_names():
    assert parse_rst("speed : int\n  In rpm.")[0].text == "speed : int\nIn rpm."


@pytest.mark.parametrize("text, wanted", [
    (r"\begin{tabularx}{\textwidth}{lX}\multicolumn{2}{p{3cm}}{Head}\\ \multirow{2}{*}{A} & \textcolor{red}{b}\end{tabularx}",
     "Head\nA | b"),
    (r"\SI{5}{\kilo\gram}, \qty{3}{\metre\per\second\squared}, \SIrange{1}{5}{\bar}, \ang{45}",
     "5 kilogram, 3 metre/second^2, 1 to 5 bar, 45°"),
    (r"\begin{theorem}[Pythagoras]a\end{theorem}", "Pythagoras\na"),
    (r"\begin{tikzpicture}\draw (0,0) -- (1,1); \node at (0,0) {Seal};\end{tikzpicture}", "Seal"),
    ("\\begin{lstlisting}[language=C,caption={Main}]\nint x;\n\\end{lstlisting}\\lstinline!a b!", "Main\nint x;\na b"),
    (r"\cventry{2019}{Engineer}{ACME}{}{}{}", "2019 Engineer ACME"),
])
def test_packages_of_latex(text, wanted):
    assert "\n".join(" ".join(line.split()) for line in parse_latex(text)[0].text.split("\n")) == wanted


def test_slides_of_latex_have_titles():
    text = r"\begin{frame}{One}\item<1-> a\end{frame}\begin{frame}[fragile]\frametitle{Two}\begin{block}{Why}b\end{block}\end{frame}"
    assert told(parse_latex(text)) == [("One", "- a"), ("Two", "Why\nb")]


# encodings


@pytest.mark.parametrize("encoding, text", [
    ("cp1252", "La pompe doit être graissée chaque semaine ; n'oubliez pas l'huile à côté du réservoir. Où est-il ?"),
    ("cp1252", "La pompa è calda, perché non c'è olio. Però può andare così: lunedì, più tardi, in città."),
    ("cp1252", "A bomba não deve funcionar a seco. As instruções são para você, então leia com atenção."),
    ("cp1252", "Pumpen måste smörjas varje vecka. Då får den hålla länge."),
    ("cp1252", "Pumpen skal smøres hver uge. Så får den lov til at køre længe."),
    ("cp1252", "¿Dónde está la bomba? El niño mañana irá al baño."),
    ("cp1252", "A café in Malmö, and nothing else: 5 µm ± 2 °C."),
    ("cp1250", "Záruka na čerpadlo trvá dvacet čtyři měsíců, říká výrobce."),
    ("cp1250", "Gwarancja na pompę wynosi dwadzieścia cztery miesiące, żaden błąd."),
    ("cp1250", "A szivattyú garanciája huszonnégy hónap. Őrizze meg a fűtőtest kezelési útmutatóját."),
    ("iso8859_2", "Gwarancja na pompę wynosi dwadzieścia cztery miesiące, żaden błąd."),
    ("cp1254", "Pompanın garantisi yirmi dört aydır, şu anda geçerli değildir. İstanbul."),
    ("cp850", "Die Pumpe hält länger für große Höfe. Öl nachfüllen."),
    ("mac_roman", "La pompe doit être graissée à côté du réservoir."),
    ("koi8_r", "Не включайте насос без воды."), ("cp1251", "Не включайте насос без воды."),
    ("cp866", "Не включайте насос без воды."), ("cp1253", "Η εγγύηση της αντλίας είναι είκοσι τέσσερις μήνες."),
    ("gb18030", "It’s the “pump”—oil it，weekly（20℃）."), ("shift_jis", "１．The “pump”　needs oil。"),
    ("cp850", "Fügen Sie Öl hinzu; Lüge, Züge, prüfen, dafür."),
    ("iso8859_15", "Die Pumpe kostet 40 € und hält länger."), ("cp1257", "Siurblio garantija yra dvidešimt keturi mėnesiai, sąlygos žemiau."),
    ("cp874", "ปั๊มรับประกันยี่สิบสี่เดือน"),
    ("shift_jis", "ポンプの保証期間は二十四か月です。"), ("gb18030", "水泵的保修期为二十四个月。"),
])
def test_texts_whose_encoding_nothing_says(encoding, text):
    assert decode_bytes(text.encode(encoding), "f")[0] == text


# titles


@pytest.mark.parametrize("name, headings, title", [
    ("README.md", "Pumpkit,Install,Use", "Pumpkit"), ("docs/index.md", "Pumpkit manual,Install", "Pumpkit manual"),
    ("README.de.md", "Pumpkit,Use", "Pumpkit"), ("pump-guide.md", "Pump guide,Use", "Pump guide"),
    ("README.md", "Installation,Use", None), ("README.md", "How do I start?,How do I stop?", None),
    ("faq.md", "How do I start?,How do I stop?", None), ("notes.md", "Pumps,Valves", None), ("index-of-parts.md", "Pumps,Valves", None),
    ("start.md", "How do I start?,How do I stop?", None)])
def test_the_first_of_several_headings_is_the_title_where_the_name_of_the_file_says_so(name, headings, title):
    names = headings.split(",")
    text = "\n\n".join(f"# {heading}\n\nText of {heading}." for heading in names)
    made = section_documents(parse_markdown(text), name)
    assert [d.title for d in made] == ([title]*len(names) if title else names)
    assert [d.context for d in made] == [f"{title} › {n}" if title and n != title else n for n in names]


# files of other programs


def test_a_large_first_letter_belongs_to_its_word():
    document = docx.Document()
    letter = f'<w:p {NAMES}><w:pPr><w:framePr w:dropCap="drop"/></w:pPr>{run("O")}</w:p>'
    for paragraph in (f"<w:p {NAMES}>{run('il it weekly.')}</w:p>", letter):
        document.element.body.insert(0, parse_xml(paragraph))
    made = io.BytesIO()
    document.save(made)
    assert told(parse_docx(made.getvalue())) == [("", "Oil it weekly.")]


def test_hidden_text_and_pictures_of_rtf():
    raw = (rb"{\rtf1\ansi{\fonttbl{\f0 Arial;}} Oil {\rtlch\fcs1 \af4 \v\f4\insrsid2 secret}{\vertalt it}{\v0 now}"
           rb"{\pict\jpegblip\picw2 \bin ffd8ffe0}.}")
    assert " ".join(parse_rtf(raw)[0].text.split()).replace(" ", "") == "Oilitnow."


def test_definitions_and_widths_of_columns_of_latex():
    text = (r"\begin{enumerate}\def\labelenumi{\arabic{enumi}.}\item a\end{enumerate}\begin{longtable}[]{@{}>{\raggedright"
            r"\arraybackslash}p{(\columnwidth - 6\tabcolsep) * \real{0.15}}@{}}Seal & 8\end{longtable}")
    assert parse_latex(text)[0].text.split() == "- a Seal | 8".split()


def test_texts_of_numbered_parts_and_pages():
    assert told(parse_text("1. Scope\n\nOf pumps.\n\n2. Terms\n\nA pump.")) == [("", "1. Scope\n\nOf pumps.\n\n2. Terms\n\nA pump.")]
    page = "\n\nLee                 Standards Track          [Page 1]\n\x0c\nRFC 9999          Pumps        January 2024\n\n"
    assert parse_text(f"It is,{page}   of pumps.")[0].text == "It is,\n\n   of pumps."


def with_bookmarks(pages, marks):
    "A PDF file of pages (a line each) with an outline of (title, page, title of the part around it)."
    from pypdf import PdfReader, PdfWriter
    raw = pdf_bytes(*([(72, 720 - 20*i, line) for i, line in enumerate(page)] for page in pages))
    writer, made = PdfWriter(clone_from=PdfReader(io.BytesIO(raw))), {}
    for title, page, above in marks:
        made[title] = writer.add_outline_item(title, page - 1, made.get(above))
    held = io.BytesIO()
    writer.write(held)
    return held.getvalue()


def test_bookmarks_of_a_pdf_are_the_headings_of_its_passages():
    pages = (["Pump manual", "Thank you."], ["1 Use", "1.1 Filling", "Open the lid.", "1.2 Star", "ting", "Press the key."],
             ["Chapter 1: Use 3", "2 Care", "Oil it weekly."], ["It lasts."], ["Index", "oil 3"])
    marks = (("1 Use", 2, ""), ("Filling", 2, "1 Use"), ("Slide 2: Starting", 2, "1 Use"), ("2 Care", 3, ""), ("Page 4", 4, ""),
             ("Not on the page", 5, ""))
    found = parse_pdf(with_bookmarks(pages, marks))
    assert [((*s.path, s.heading), s.text, s.page) for s in found] == [
        (("",), "Pump manual\nThank you.", 1), (("1 Use", "Filling"), "Open the lid.", 2), (("1 Use", "Starting"), "Press the key.", 2),
        (("2 Care",), "Chapter 1: Use 3\nOil it weekly.", 3), (("2 Care",), "It lasts.", 4),
        (("Not on the page",), "Index\noil 3", 5)]
    assert [d.context for d in section_documents(found, "a.pdf")][1:4] == ["1 Use › Filling", "1 Use › Starting", "2 Care"]
    bare = parse_pdf(with_bookmarks((["A", "B", "C"],), (("A", 1, ""), ("B", 1, ""), ("C", 1, ""))))
    assert [d.text for d in section_documents(bare, "a.pdf")] == ["A", "B", "C"]


@pytest.mark.parametrize("text, wanted", [
    ('<Card\n  title="Install"\n  icon="x"\n>\n    Get it.\n\n    ```sh\n    npm i\n    ```\n</Card>', "Install\n\nGet it.\n\nnpm i"),
    ("- <Badge text=\"New\" style={{ color: 'red' }} /> oil", "New oil"),
    ("See [the valves]({% link docs/valves.md %}#shut) and [seals]({{< relref \"seals.md\" >}}).", "See the valves and seals."),
    ("Text:\n\n    indented code\n      of <Item>", "Text:\n\nindented code\n  of <Item>"),
])
def test_components_over_lines_and_links_that_a_template_leads(text, wanted):
    assert "\n\n".join(s.text for s in parse_markdown(text)).replace("  oil", " oil") == wanted


def test_links_whose_addresses_stand_elsewhere():
    text = "= T\n\nIt is {url-org}/repo[hosted^], {url-api}/{version}[the API], {product} and {x}[]."
    assert parse_asciidoc(text)[0].text == "It is hosted, the API, {product} and {x}[]."


def test_titles_stand_at_the_head_of_a_file_as_in_a_letter():
    pep = ("PEP: 572\nTitle: Assignment Expressions\nAuthor: Ann B. <a@b.c>,\n        Tim P.\nStatus: Final\n\nAbstract\n========\n\n"
           "A proposal.\n\nRationale\n=========\n\nNaming.")
    title = "PEP 572 – Assignment Expressions"
    assert [(s.heading, s.path, s.text) for s in parse_rst(pep)] == [
        (title, (), "PEP: 572\n\nAuthor: Ann B. <a@b.c>, Tim P.\n\nStatus: Final"),
        ("Abstract", (title,), "A proposal."), ("Rationale", (title,), "Naming.")]
    post = "Title: My *first* pump\nDate: 2010-12-03 10:20\nTags:\n\nOil it.\n\n# Part\n\nMore."
    assert told(parse_markdown(post)) == [("My *first* pump", "Date: 2010-12-03 10:20\nTags:\n\nOil it."), ("Part", "More.")]
    assert told(parse_markdown("Note: oil it.\nTip: daily.\n\nText.")) == [("", "Note: oil it. Tip: daily.\n\nText.")]


@pytest.mark.parametrize("written, shown", [
    ("Q&amp;A", "Q&A"), ("Pack <em>before</em> you <b class=\"x\">go</b>", "Pack before you go"), ("List<T> &copy", "List<T> &copy"),
    ("The <title> of a page", "The <title> of a page"), ("One<br>two &#8211; three", "One two – three")])
def test_titles_of_front_matter_are_read_as_a_page_shows_them(written, shown):
    assert parse_markdown(f"---\ntitle: '{written}'\n---\nText.")[0].heading == shown


def test_web_pages_with_front_matter():
    page = "---\nlayout: default\ntitle: \"Opening &amp; hours\"\n---\n{% include top.html %}\n"
    assert told(parse_html(page + "<p>At nine{{ x }}.</p><h2>Sunday</h2><p>closed</p>")) == [
        ("Opening & hours", "At nine."), ("Sunday", "closed")]
    assert told(parse_html(page + "<html><head><title>{{ page.title }}</title></head><body>At nine.</body></html>")) == [
        ("Opening & hours", "At nine.")]
    assert told(parse_html("<p>--- a\n---\nb {{ x }}</p>")) == [("", "--- a --- b {{ x }}")]


@pytest.mark.parametrize("text, wanted", [
    ("{% raw %}\n```twig\n{% extends \"a\" %}\n```\n{% endraw %}\n\nUse {% raw %}{{ x }}{% endraw %}.", '{% extends "a" %}\n\nUse {{ x }}.'),
    ("<table><tr><td>Slack</td><td>{% channel \"sf\" %} x</td></tr></table>", "Slack | x"),
    ("<pre>{% if x %}</pre>", "{% if x %}"), ("/// Note | Mind it\n\nOil.\n\n///", "Mind it\n\nOil."),
    ("```console\n$ <font color=\"#4E9A06\">run</font> <u style=\"x\">it</u> &apos;now&apos;\n```", "$ run it 'now'"),
    ("```html\n<font color=\"red\">x</font>\n```\n\n```sh\ncat <b>\n```", '<font color="red">x</font>\n\ncat <b>'),
])
def test_marks_of_templates_and_colours_of_terminals_are_not_shown(text, wanted):
    assert "\n\n".join(s.text for s in parse_markdown(text)) == wanted


def test_markdown_between_tags_of_mdx():
    text = ("<p>\n**Type:** `x`<br />\n<Since v=\"1\" />\n</p>\n\n<details>\n<summary>no `b` file</summary>\nMake [it](/x).\n</details>\n\n"
            "<div>**Hot** oil</div>\n\n```html\n<p>\n**x**\n</p>\n```")
    assert parse_markdown(text, mdx=True)[0].text == "Type: x\n\nno b file\n\nMake it.\n\nHot oil\n\n<p>\n**x**\n</p>"
    assert "**Type:**" in parse_markdown(text)[0].text      # as a browser is given it elsewhere


def test_roles_and_captions_of_sphinx_with_words_of_their_own():
    text = "See :pep:`the build <676>`, :pep:`8#names` and :rfc:`2822`.\n\n.. code-block:: python\n    :caption: ``wsgi.py``\n\n    import x"
    assert parse_rst(text)[0].text == "See the build, PEP 8 and RFC 2822.\n\nwsgi.py\n\nimport x"


@pytest.mark.parametrize("name, said", [
    ("a/Project Alpha kickoff.md", "Project Alpha kickoff"), ("bad-drivers.csv", "bad drivers"), ("2023_ACME-invoice.txt", "2023_ACME invoice"),
    ("report.final.txt", "report.final"), ("pump-log.txt.gz", "pump log"), ("会議メモ.txt", "会議メモ"), ("Dr. Who.txt", "Dr. Who"),
    ("docs/index.md", ""), ("Untitled document.txt", ""), ("2024-05-01.md", ""), ("IMG_2034.txt", ""), ("b8f1c2d3.txt", "")])
def test_a_file_without_a_title_is_called_what_its_name_says(name, said):
    assert [d.title for d in section_documents(parse_markdown("Oil it.\n\n## Daily\n\nNow."), name)] == [said, said]
    assert section_documents(parse_markdown("# Pump\n\nOil it."), name)[0].title == "Pump"
    assert section_documents(parse_markdown(""), name) == []


def test_a_term_stands_with_its_definition():
    told = [("-m", "Suitable for mirroring a whole site, with all that belongs to it."), ("--verbose", "Say more of what is done."),
            ("accept-new", "Take the keys of hosts that were never seen before."), ("", "Use the flag as follows:"), ("", "run --all")]*9
    text = "\n\n".join(f"{term}\n\n{said}".strip() for term, said in told)
    for budget in range(24, 90):
        found = passages(text, budget, 10)
        assert all(p.rpartition("\n\n")[2] not in ("-m", "--verbose", "accept-new", "Use the flag as follows:") for p in found)
        assert all(len(p.split("\n\n")) > 1 for p in found[:-1])
    rest = 0
    for part in text.split("\n\n"):     # nothing is lost, and the order is kept
        rest = next(i for i in range(rest, len(found)) if part in found[i])
    lines = [f"line {i} of notes without an end" for i in range(60)]
    joined = passages("\n\n".join(lines), 30, 8)
    assert {line for p in joined for line in p.split("\n\n")} == set(lines)
