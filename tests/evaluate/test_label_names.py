"""Names of labels, as the common tools write them."""

import json

import nibabel as nib
import numpy as np
import pytest

from agnoreg.evaluate.evaluation import InputError, evaluate_pair, to_csv, to_json
from agnoreg.evaluate.label_names import label_names

EXPECTED = {1: "Left Hippocampus", 17: "Amygdala, right", 1035: "ctx-lh-insula"}

FILES = {
    "comma.csv": 'id,name\n1,Left Hippocampus\n17,"Amygdala, right"\n1035,ctx-lh-insula\n',
    "semicolon.csv": "ID;Name;volume\n1;Left Hippocampus;3\n17;Amygdala, right;4\n1035;ctx-lh-insula;5\n",
    "bids.tsv": (
        "index\tname\tcolor\n1\tLeft Hippocampus\t#ff0000\n17\tAmygdala, right\t#00ff00\n1035\tctx-lh-insula\tn/a\n"
    ),
    "label_first.csv": 'label,id\nLeft Hippocampus,1\n"Amygdala, right",17\nctx-lh-insula,1035\n',
    "value_of_label.tsv": "label\tvalue\nLeft Hippocampus\t1\nAmygdala, right\t17\nctx-lh-insula\t1035\n",
    "floats.csv": '"label_id","label_name"\n1.0,Left Hippocampus\n17.0,"Amygdala, right"\n1035.0,ctx-lh-insula\n',
    "bare.csv": '1,Left Hippocampus\n17,"Amygdala, right"\n1035,ctx-lh-insula\n',
    "bare.txt": "1 Left Hippocampus\n17 Amygdala, right\n1035 ctx-lh-insula\n",
    "itksnap.label": (
        "################\n# ITK-SnAP Label Description File\n# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL\n"
        '    1   255    0    0        1  1  1    "Left Hippocampus"\n'
        '   17     0  255    0      0.5  1  1    "Amygdala, right"\n'
        ' 1035     0    0  255        1  1  1    "ctx-lh-insula"\n'
    ),
    "freesurfer.txt": (
        "#$Id: FreeSurferColorLUT.txt\n\n#No. Label Name:                            R   G   B   A\n\n"
        "1   Left Hippocampus                    70  130 180 0\n"
        "17  Amygdala, right   103 255 255 0\n1035\tctx-lh-insula\t255 192 32 0\n"
    ),
    "windows.csv": '\ufeffid,name\r\n1,Left Hippocampus\r\n\r\n17,"Amygdala, right"\r\n1035,ctx-lh-insula\r\n',
}


@pytest.mark.parametrize("name", FILES)
def test_the_common_formats_are_read(tmp_path, name):
    (tmp_path / name).write_text(FILES[name], "utf-8", newline="")
    assert label_names(tmp_path / name) == EXPECTED
    assert label_names(str(tmp_path / name)) == EXPECTED


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no label"),
        ("# nothing\n", "holds no label"),
        ("id,name\n", "holds no label"),
        ("id,name\n1,a\n1,b\n", "line 3: the label 1 has two names, 'a' and 'b'"),
        ("id,name\n1,a\nx,b\n", "line 3: 'x,b' is no label and its name"),
        ("id,name\n1.5,a\n", "line 2: '1.5,a' is no label"),
        ("id,name\n1\n", "line 2: '1' is no label"),
        ("id,name\n1,\n", "line 2: '1,' is no label"),
        ("hello\n", "line 1: 'hello' is no label"),
        ("subject,dice\n1,0.5\nx,0.7\n", "line 1: 'subject,dice' is no label"),
        ('id,name\n1,"a\n', "cannot be read"),
        ("id,name\n1,\x00\udcff\n", "cannot be read"),
    ],
)
def test_a_file_without_names_is_refused_in_one_line(tmp_path, content, message):
    path = tmp_path / "names.csv"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=message) as caught:
        label_names(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"--label-names .*nowhere\.csv cannot be read"):
        label_names(tmp_path / "nowhere.csv")
    with pytest.raises(InputError, match="cannot be read"):
        label_names(tmp_path)


def test_records_json_and_csv_carry_the_names(tmp_path):
    label = np.zeros((6, 6, 6), np.int16)
    label[1:3], label[4:] = 1, 99
    image = nib.Nifti1Image(np.random.default_rng(0).random((6, 6, 6)), np.eye(4))
    maps = nib.Nifti1Image(label, np.eye(4))
    (tmp_path / "names.csv").write_text(FILES["comma.csv"])
    for names in (EXPECTED, tmp_path / "names.csv"):
        result = evaluate_pair(
            image, image, fixed_label=maps, moved_label=maps, losses=["dice", "centroid_distance"], label_names=names
        )
        found = [(record.label, record.label_name) for record in result.records]
        assert found == [(1, "Left Hippocampus"), (99, ""), ("mean", "")] * 2
        assert [entry["label_name"] for entry in json.loads(to_json(result))["metrics"]] == [name for _, name in found]
        assert "Left Hippocampus" in to_csv(result)
        assert not result.warnings
    result = evaluate_pair(image, image, fixed_label=maps, moved_label=maps, losses=["dice"], label_names={5: "x"})
    assert result.warnings == ("--label-names has no name for any of the labels.",)
