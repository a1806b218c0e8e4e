from farstep.core.errors import nearest


def test_nearest_suggests_close_names_and_otherwise_lists_all():
    assert nearest("mqee", ["mqe", "gcbc"]) == " Did you mean 'mqe'?"
    assert nearest("zzz", ["mqe", "gcbc"]) == " Known: gcbc, mqe."
    assert nearest("zzz", []) == ""
