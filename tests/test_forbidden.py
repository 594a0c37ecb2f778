"""The lists of substructures that are shipped, held against drugs and against what they are for."""

import pytest
from rdkit import Chem

from gfn_design.environments.molecules.forbidden import LISTS, REACTIVE, UNSTABLE, listed_patterns
from gfn_design.environments.molecules.fragments import Fragments

DRUGS = {
    "aspirin": "CC(=O)Oc1ccccc1C(=O)O",
    "atorvastatin": "CC(C)c1c(C(=O)Nc2ccccc2)c(-c2ccccc2)c(-c2ccc(F)cc2)n1CCC(O)CC(O)CC(=O)O",
    "celecoxib": "Cc1ccc(-c2cc(C(F)(F)F)nn2-c2ccc(S(N)(=O)=O)cc2)cc1",
    "ciprofloxacin": "O=C(O)c1cn(C2CC2)c2cc(N3CCNCC3)c(F)cc2c1=O",
    "fluconazole": "OC(Cn1cncn1)(Cn1cncn1)c1ccc(F)cc1F",
    "glucose": "OCC1OC(O)C(O)C(O)C1O",
    "imatinib": "Cc1ccc(NC(=O)c2ccc(CN3CCN(C)CC3)cc2)cc1Nc1nccc(-c2cccnc2)n1",
    "linezolid": "CC(=O)NCC1CN(c2ccc(N3CCOCC3)c(F)c2)C(=O)O1",
    "losartan": "CCCCc1nc(Cl)c(CO)n1Cc1ccc(-c2ccccc2-c2nnn[nH]2)cc1",
    "meloxicam": "Cc1cnc(NC(=O)C2=C(O)c3ccccc3S(=O)(=O)N2C)s1",
    "metformin": "CN(C)C(=N)NC(=N)N",
    "omeprazole": "COc1ccc2[nH]c(S(=O)Cc3ncc(C)c(OC)c3C)nc2c1",
    "risperidone": "Cc1nc2n(c(=O)c1CCN1CCC(c3noc4cc(F)ccc34)CC1)CCCC2",
    "sildenafil": "CCCc1nn(C)c2c(=O)[nH]c(-c3cc(S(=O)(=O)N4CCN(C)CC4)ccc3OCC)nc12",
    "sumatriptan": "CNS(=O)(=O)Cc1ccc2[nH]cc(CCN(C)C)c2c1",
    "valsartan": "CCCCC(=O)N(Cc1ccc(-c2ccccc2-c2nnn[nH]2)cc1)C(C(=O)O)C(C)C",
    "warfarin": "CC(=O)CC(c1ccccc1)c1c(O)c2ccccc2oc1=O",
    "nitrobenzene": "O=[N+]([O-])c1ccccc1",
    "pyridine oxide": "c1cc[n+]([O-])cc1",
}
HELD = {
    "peroxide": ["CCOOC", "c1ccc(OOc2ccccc2)cc1"],
    "N-N single bond": ["CN(C)N(C)C", "CN(C)n1cccc1", "c1ccn(-n2cccc2)c1", "C1CCN(-n2ccnc2)CC1"],
    "N-O single bond": ["CON(C)C", "COn1cccc1", "c1ccc(On2ccnc2)cc1"],
    "N-S single bond, no sulfonamide": ["CN(C)SC", "CSn1cccc1"],
    "geminal diamine": ["CNCNC"],
    "nitroso": ["CN=O"],
    "aldehyde": ["CC=O", "O=Cc1ccccc1"],
    "acyl urea": ["CC(=O)NC(=O)NC"],
    "thiol": ["CCS", "Sc1ccccc1"],
    "acyl halide": ["CC(=O)Cl"],
    "Michael acceptor": ["C=CC(=O)NC"],
}


def held(smiles, patterns):
    molecule = Chem.MolFromSmiles(smiles)
    return [n for n, s in patterns.items() if molecule.HasSubstructMatch(Chem.MolFromSmarts(s))]


@pytest.mark.parametrize("name", DRUGS)
def test_drugs_are_let_through(name):
    assert held(DRUGS[name], UNSTABLE | REACTIVE) == []


@pytest.mark.parametrize(("name", "smiles"), [(n, s) for n, all_of in HELD.items() for s in all_of])
def test_what_is_not_wanted_is_named(name, smiles):
    assert name in held(smiles, UNSTABLE | REACTIVE)


def test_every_pattern_is_one():
    for patterns in LISTS.values():
        assert all(Chem.MolFromSmarts(smarts) is not None for smarts in patterns.values())
    assert listed_patterns(["unstable", "[Si]"]) == {**UNSTABLE, "[Si]": "[Si]"}


def test_an_environment_rejects_what_a_list_names():
    environment = Fragments(["[*]NC", "[*]c1ccccc1"], max_blocks=2, forbidden=["unstable"])
    states = environment.encode(["CNNC", "CNc1ccccc1"])
    assert environment.rejected_for(states) == ["N-N single bond", None]
