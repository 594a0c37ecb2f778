"""Lists of substructures that a chemist would rather not have, by name."""

from collections.abc import Iterable

# What falls apart, in water, in air or by itself.
UNSTABLE = {
    "peroxide": "[OX2]-[OX2]",
    "N-O single bond": "[NX3,nX3;!$([N+]=O)]-[OX2]",
    "N-N single bond": "[NX3,nX3]-[NX3,nX3]",
    "N-S single bond, no sulfonamide": "[NX3,nX3]-[SX2]",
    "N-halogen": "[N,n]-[F,Cl,Br,I]",
    "O-halogen": "[OX2]-[F,Cl,Br,I]",
    "S-halogen": "[SX2]-[F,Cl,Br,I]",
    "O-S, no sulfonate": "[OX2]-[SX2]",
    "P-halogen": "P-[F,Cl,Br,I]",
    "three heteroatoms in a chain": "[N,O,S;!$([N+](=O)[O-])]-[N,O,SX2]-[N,O,SX2]",
    "hemiacetal or hemiaminal": "[CX4;!R]([OX2H])[OX2,NX3;!$(N-C=O)]",
    "geminal diamine": "[CX4H2,CX4H1]([NX3;!$(N-[C,S]=O)])[NX3;!$(N-[C,S]=O)]",
    "carbamic acid": "[NX3]C(=O)[OX2H]",
    "enol": "[CX3;!$(C-C=O);!$(C-S=O)]=[CX3]-[OX2H]",
    "enamine, primary": "[CX3]=[CX3]-[NX3H2]",
    "imine, unsubstituted": "[CX3;!$(C(N)N)]=[NX2H]",
    "cumulated double bonds": "*=[CX2]=*",
    "diazo": "[#6]=[N+]=[N-]",
    "azide": "N=[N+]=[N-]",
    "nitroso": "[#6,#7]-[NX2]=O",
    "sulfonyl without a second end": "[SX4H](=O)=O",
}
# What reacts with what it should not: proteins, mostly.
REACTIVE = {
    "aldehyde": "[CX3H1](=O)[#6,#1]",
    "formyl, on N, O or S": "[CX3H1](=O)[N,O,S]",
    "acyl halide": "[CX3](=O)[F,Cl,Br,I]",
    "acid anhydride": "C(=O)OC(=O)",
    "acyl urea": "[CX3](=O)[NX3][CX3](=O)[NX3]",
    "thiol": "[SX2H]",
    "disulfide": "[SX2]-[SX2]",
    "thioester": "C(=O)[SX2]",
    "thiocarbonyl": "[CX3;!$(C(N)N)]=[SX1]",
    "sulfonyl halide": "S(=O)(=O)[F,Cl,Br,I]",
    "sulfonate ester": "[#6]S(=O)(=O)O[#6]",
    "isocyanate": "N=C=[O,S]",
    "epoxide, aziridine": "C1[O,N,S]C1",
    "alkyl halide": "[CX4;!$(C(F)F)][Cl,Br,I]",
    "Michael acceptor": "[CX3H2]=[CX3]-[CX3]=O",
    "quinone": "O=C1C=CC(=O)C=C1",
    "1,2-dicarbonyl": "[#6;!$(C(=O)N)]C(=O)C(=O)[#6;!$(C(=O)N)]",
    "hydrazine, acyl": "C(=O)[NX3][NX3H2]",
    "alkyne, terminal": "C#[CH]",
    "boronic acid": "[#6]B(O)O",
}
LISTS = {"unstable": UNSTABLE, "reactive": REACTIVE}


def listed_patterns(forbidden: Iterable[str]) -> dict[str, str]:
    """SMARTS by what they are called, of SMARTS and names of lists."""
    found: dict[str, str] = {}
    for it in forbidden:
        found |= LISTS.get(it, {it: it})
    return found
