// Keyboard layouts: which key prints which character on a machine of that layout.
//
// `levels`: plain, Shift, AltGr, AltGr + Shift; rows from top to bottom as in ROWS below. `◌` stands
// before a dead key's accent, `□` for no character. They are those of Linux (tests/browser compares
// each key with X.org's). `windows`: what AltGr gives there instead, as pairs of the key's own
// character and the result; `windowsPlain`: the same without AltGr. `languages`: which of the
// browser's languages choose it.

const codes = (prefix, letters) => Array.from(letters, (letter) => prefix + letter);

/** `KeyboardEvent.code` of the keys that print, in the order of a layout's rows. */
export const ROWS = [
    ["Backquote", ...codes("Digit", "1234567890"), "Minus", "Equal"],
    [...codes("Key", "QWERTYUIOP"), "BracketLeft", "BracketRight"],
    [...codes("Key", "ASDFGHJKL"), "Semicolon", "Quote", "Backslash"],
    ["IntlBackslash", ...codes("Key", "ZXCVBNM"), "Comma", "Period", "Slash", "IntlRo", "IntlYen"],
];

export const LAYOUTS = [
    {
        id: "us", languages: "en",
        levels: [
            `\`1234567890-= qwertyuiop[] asdfghjkl;'\\ □zxcvbnm,./`,
            `~!@#$%^&*()_+ QWERTYUIOP{} ASDFGHJKL:"| □ZXCVBNM<>?`,
        ],
        windows: ``,
    },
    {
        id: "us-intl", languages: "nl pt-BR",
        levels: [
            `◌̀1234567890-= qwertyuiop[] asdfghjkl;◌́\\ □zxcvbnm,./`,
            `◌̃!@#$%◌̂&*()_+ QWERTYUIOP{} ASDFGHJKL:◌̈| □ZXCVBNM<>?`,
            `\`¡²³¤€¼½¾‘’¥× äåé®þüúíóö«» áßð□□□□œø¶'¬ □æ□©□□ñµç◌̇¿`,
            `~¹◌̋◌̄£◌̧^◌̛◌̨◌̆◌̊◌̣÷ ÄÅÉ®ÞÜÚÍÓÖ“” Á§Ð□□□□ŒØ°"¦ □Æ□¢□□ÑµÇ◌̌◌̉`,
        ],
        windows: `1¡ 2² 3³ 4¤ 5€ 6¼ 7½ 8¾ 9‘ 0’ -¥ =× qä wå eé r® tþ yü uú ií oó pö [« ]» aá sß dð lø ;¶ ◌́´ \\¬ zæ c© nñ mµ ,ç /¿ !¹ $£ +÷ QÄ WÅ EÉ TÞ YÜ UÚ IÍ OÓ PÖ AÁ S§ DÐ LØ :° ◌̈¨ |¦ ZÆ C¢ NÑ <Ç`,
    },
    {
        id: "uk", languages: "en-GB en-IE",
        levels: [
            `\`1234567890-= qwertyuiop[] asdfghjkl;'# \\zxcvbnm,./`,
            `¬!"£$%^&*()_+ QWERTYUIOP{} ASDFGHJKL:@~ |ZXCVBNM<>?`,
            `|¹²³€½¾{[]}\\◌̧ @ſ□¶ŧ←↓→øþ◌̈◌̃ æßðđŋħ◌̉ĸł◌́◌̂◌̀ □«»¢„“”µ•·◌̣`,
            `|¡⅛□¼⅜⅝⅞™±°¿◌̨ Ω§□®Ŧ¥↑ıØÞ◌̊◌̄ ÆẞÐªŊĦ◌̛&Ł◌̋◌̌◌̆ ¦<>©‚‘’º×÷◌̇`,
        ],
        windows: `4€ \`¦ #\\ ~| aá eé ií oó uú AÁ EÉ IÍ OÓ UÚ`,
    },
    {
        id: "be", languages: "fr-BE nl-BE",
        levels: [
            `²&é"'(§è!çà)- azertyuiop◌̂$ qsdfghjklmùµ <wxcvbn,;:=`,
            `³1234567890°_ AZERTYUIOP◌̈* QSDFGHJKLM%£ >WXCVBN?./+`,
            `¬|@#¼½^{[{}\\◌̧ @ſ€¶ŧ←↓→œþ[] æßðđŋħ◌̉ĸł◌́◌́◌̀ \\«»¢„“”◌̧•·◌̃`,
            `¬¡⅛£$⅜⅝⅞™±°¿◌̨ Ω§¢®Ŧ¥↑ıŒÞ◌̊◌̄ ÆẞÐªŊĦ◌̛&Ł◌̋◌̌◌̆ \\<>©‚‘’º×÷◌̇`,
        ],
        windows: `&| é@ "# §^ ç{ à} ◌̂[ $] ù◌́ µ◌̀ <\\ =◌̃ e€`,
    },
    {
        id: "dk", languages: "da",
        levels: [
            `½1234567890+◌́ qwertyuiopå◌̈ asdfghjklæø' <zxcvbnm,.-`,
            `§!"#¤%&/()=?◌̀ QWERTYUIOPÅ◌̂ ASDFGHJKLÆØ* >ZXCVBNM;:_`,
            `¾¡@£$½¥{[]}±| @ſ€®þ←↓→œþ◌̈◌̃ ªßðđŋħ◌̉ĸł◌́◌̂◌̋ \\«»©„“”µ◌̧·◌̣`,
            `¶¹²³¼¢⅝÷«»°¿¦ Ω§¢®Þ¥↑ıŒÞ◌̊◌̌ ºẞÐªŊĦ◌̛&Ł◌̋◌̌× ¬<>©‚‘’º◌̨◌̇◌̇`,
        ],
        windows: `2@ 3£ 4$ 5€ e€ 7{ 8[ 9] 0} ◌́| ◌̈◌̃ <\\ mµ`,
    },
    {
        id: "de", languages: "de",
        levels: [
            `◌̂1234567890ß◌́ qwertzuiopü+ asdfghjklöä# <yxcvbnm,.-`,
            `°!"§$%&/()=?◌̀ QWERTZUIOPÜ* ASDFGHJKLÖÄ' >YXCVBNM;:_`,
            `′¹²³¼½¬{[]}\\◌̧ @ſ€¶ŧ←↓→øþ◌̈~ æſðđŋħ◌̣ĸł◌̋◌̂’ |»«¢„“”µ·…–`,
            `″¡⅛£¤⅜⅝⅞™±°¿◌̨ Ω§€®Ŧ¥↑ıØÞ◌̊¯ ÆẞÐªŊĦ◌̇&Ł◌̣◌̌◌̆ □›‹©‚‘’º×÷—`,
        ],
        windows: `q@ e€ 2² 3³ 7{ 8[ 9] 0} ß\\ +~ <| mµ ?ẞ`,
    },
    {
        id: "fi", languages: "fi",
        levels: [
            `§1234567890+◌́ qwertyuiopå◌̈ asdfghjklöä' <zxcvbnm,.-`,
            `½!"#¤%&/()=?◌̀ QWERTYUIOPÅ◌̂ ASDFGHJKLÖÄ* >ZXCVBNM;:_`,
            `□□@£$‰‚{[]}\\◌̧ □□€□þ□□ıœ◌̛◌̋◌̃ əßð□□□□ĸ□øæ◌̌ |ʒ×□□□ŋµ’◌̣–`,
            `□¡”»«“„□<>°¿◌̨ □□□□Þ□□|Œ◌̉◌̊◌̄ ƏẞÐ□□□□□□ØÆ◌̆ ¦Ʒ·□□□Ŋ—‘◌̇□`,
        ],
        windows: `2@ 3£ 4$ 5€ e€ 7{ 8[ 9] 0} +\\ ◌̈◌̃ <| mµ`,
    },
    {
        id: "fr", languages: "fr",
        levels: [
            `²&é"'(-è_çà)= azertyuiop◌̂$ qsdfghjklmù* <wxcvbn,;:!`,
            `~1234567890°+ AZERTYUIOP◌̈£ QSDFGHJKLM%µ >WXCVBN?./§`,
            `¬¹~#{[|\`\\^@]} æ«€¶ŧ←↓→øþ□¤ @ßðđŋħ◌̉ĸłµ◌̂◌̀ |ł»¢„“”◌́•·◌̣`,
            `¬¡⅛£$⅜⅝⅞™±°¿◌̨ Æ<¢®Ŧ¥↑ıØÞ◌̊◌̄ ΩẞÐªŊĦ◌̛&Łº◌̌◌̆ ¦Ł>©‚‘’◌̋×÷◌̇`,
        ],
        windows: `é◌̃ "# '{ ([ -| è◌̀ _\\ ç^ à@ )] =} e€ $¤`,
        windowsPlain: `~□`,
    },
    {
        id: "it", languages: "it",
        levels: [
            `\\1234567890'ì qwertyuiopè+ asdfghjklòàù <zxcvbnm,.-`,
            `|!"£$%&/()=?^ QWERTYUIOPé* ASDFGHJKLç°§ >ZXCVBNM;:_`,
            `¬¹²³¼½¬{[]}\`~ @ſ€¶ŧ←↓→øþ[] æßðđŋħ◌̉ĸł@#◌̀ ««»¢“”ñµ◌́·◌̄`,
            `¦¡◌̋◌̃⅛⅜⅝⅞™±◌̨¿◌̂ Ω§¢®Ŧ¥↑ıØÞ{} ÆẞÐªŊĦ◌̛&Ł◌̧◌̊◌̆ »<>©‘’Ñº×◌̈÷`,
        ],
        windows: `è[ +] é{ *} ò@ à# e€ 5€`,
    },
    {
        id: "jp", languages: "ja",
        levels: [
            `□1234567890-^ qwertyuiop@[ asdfghjkl;:] □zxcvbnm,./\\\\`,
            `□!"#$%&'()□=~ QWERTYUIOP\`{ ASDFGHJKL+*} □ZXCVBNM<>?_|`,
        ],
        windows: ``,
    },
    {
        id: "no", languages: "no nb nn",
        levels: [
            `|1234567890+\\ qwertyuiopå◌̈ asdfghjkløæ' <zxcvbnm,.-`,
            `§!"#¤%&/()=?◌̀ QWERTYUIOPÅ◌̂ ASDFGHJKLØÆ* >ZXCVBNM;:_`,
            `¦¡@£$½¥{[]}±◌́ @ſ€®þ←↓→œπ◌̈◌̃ ªßðđŋħ◌̉ĸł◌́◌̂◌̋ ½«»©„“”µ◌̧…–`,
            `¶¹²³¼‰⅝÷«»°¿¬ Ω§¢™Þ¥↑ıŒΠ◌̊◌̌ ºẞÐªŊĦ◌̛&Ł◌̋◌̌× ¾<>©‚‘’º◌̨·—`,
        ],
        windows: `2@ 3£ 4$ 5€ e€ 7{ 8[ 9] 0} \\◌́ ◌̈◌̃ mµ`,
    },
    {
        id: "pl", languages: "pl",
        levels: [
            `\`1234567890-= qwertyuiop[] asdfghjkl;'\\ □zxcvbnm,./`,
            `~!@#$%^&*()_+ QWERTYUIOP{} ASDFGHJKL:"| □ZXCVBNM<>?`,
            `¬≠²³¢€½§·«»–◌̧ πœę©ß←↓→óþ◌̈◌̃ ąśðæŋ’ə…ł◌́◌̂◌̀ □żźć„”ńµ≤≥◌̣`,
            `∨¡¿£¼‰∧≈¾±°—◌̨ ΩŒĘ®™¥↑↔ÓÞ◌̊◌̄ ĄŚÐÆŊ•Ə□Ł◌̋◌̌◌̆ ¦ŻŹĆ‘“Ń∞×÷◌̇`,
        ],
        windows: `aą eę oó sś lł zż xź cć nń u€ AĄ EĘ OÓ SŚ LŁ ZŻ XŹ CĆ NŃ`,
        windowsPlain: `~◌̃`,
    },
    {
        id: "pt", languages: "pt",
        levels: [
            `\\1234567890'« qwertyuiop+◌́ asdfghjklçº◌̃ <zxcvbnm,.-`,
            `|!"#$%&/()=?» QWERTYUIOP*◌̀ ASDFGHJKLÇª◌̂ >ZXCVBNM;:_`,
            `¬¹@£§½¬{[]}\\◌̧ @ſ€¶ŧ←↓→øþ◌̈◌̃ æßðđŋħ◌̉ĸł◌́◌̂◌̀ \\«»¢„“”µ•·◌̣`,
            `¬¡⅛£□⅜⅝⅞™±°¿◌̨ Ω§¢®Ŧ¥↑ıØÞ◌̊◌̄ ÆẞÐªŊĦ◌̛&Ł◌̋◌̌◌̆ \\<>©‚‘’º×÷◌̇`,
        ],
        windows: `2@ 3£ 4§ 5€ e€ 7{ 8[ 9] 0} +◌̈`,
    },
    {
        id: "es", languages: "es",
        levels: [
            `º1234567890'¡ qwertyuiop◌̀+ asdfghjklñ◌́ç <zxcvbnm,.-`,
            `ª!"·$%&/()=?¿ QWERTYUIOP◌̂* ASDFGHJKLÑ◌̈Ç >ZXCVBNM;:_`,
            `\\|@#~½¬{[]}\\◌̧ @ſ€¶ŧ←↓→øþ[] æßðđŋħ◌̉ĸł◌̃{} |«»¢„“”µ•·◌̣`,
            `\\¡⅛£□⅜⅝⅞™±°¿◌̨ Ω§¢®Ŧ¥↑ıØÞ◌̊◌̄ ÆẞÐªŊĦ◌̛&Ł◌̋◌̌◌̆ ¦<>©‚‘’º×÷◌̇`,
        ],
        windows: `º\\ 1| 2@ 3# 4◌̃ 5€ 6¬ e€ ◌̀[ +] ◌́{ ç}`,
    },
    {
        id: "se", languages: "sv",
        levels: [
            `§1234567890+◌́ qwertyuiopå◌̈ asdfghjklöä' <zxcvbnm,.-`,
            `½!"#¤%&/()=?◌̀ QWERTYUIOPÅ◌̂ ASDFGHJKLÖÄ* >ZXCVBNM;:_`,
            `¶¡@£$€¥{[]}\\± @ſ€®þ←↓→œþ◌̈◌̃ ªßðđŋħ◌̉ĸłøæ´ |«»©„“”µ◌̧·◌̣`,
            `¾¹²³¼¢⅝÷«»°¿¬ Ω§¢®Þ¥↑ıŒÞ◌̊◌̌ ºẞÐªŊĦ◌̛&ŁØÆ× ¦<>©‚‘’º◌̨◌̇◌̇`,
        ],
        windows: `2@ 3£ 4$ 5€ e€ 7{ 8[ 9] 0} +\\ ◌̈◌̃ <| mµ`,
    },
    {
        id: "ch-de", languages: "de-CH de-LI",
        levels: [
            `§1234567890'◌̂ qwertzuiopü◌̈ asdfghjklöä$ <yxcvbnm,.-`,
            `°+"*ç%&/()=?◌̀ QWERTZUIOPè! ASDFGHJKLéà£ >YXCVBNM;:_`,
            `¬|@#¼½¬|¢]}◌́◌̃ @ſ€¶ŧ←↓→œþ[] æßðđŋħ◌̉ĸł◌́{} \\«»¢„“”µ•·◌̣`,
            `¬¡⅛£$⅜⅝⅞™±°¿◌̨ Ω§□®Ŧ¥↑ıŒÞ◌̊◌̄ ÆẞÐªŊĦ◌̛&Ł◌̋◌̌◌̆ ¦<>©‚‘’º×÷◌̇`,
        ],
        windows: `1¦ 2@ 3# 6¬ 7| 8¢ '◌́ ◌̂◌̃ e€ ü[ ◌̈] ä{ $} <\\`,
    },
    {
        id: "ch-fr", languages: "fr-CH it-CH",
        levels: [
            `§1234567890'◌̂ qwertzuiopè◌̈ asdfghjkléà$ <yxcvbnm,.-`,
            `°+"*ç%&/()=?◌̀ QWERTZUIOPü! ASDFGHJKLöä£ >YXCVBNM;:_`,
            `¬|@#¼½¬|¢]}◌́◌̃ @ſ€¶ŧ←↓→œþ[] æßðđŋħ◌̉ĸł◌́{} \\«»¢„“”µ•·◌̣`,
            `¬¡⅛£$⅜⅝⅞™±°¿◌̨ Ω§□®Ŧ¥↑ıŒÞ◌̊◌̄ ÆẞÐªŊĦ◌̛&Ł◌̋◌̌◌̆ ¦<>©‚‘’º×÷◌̇`,
        ],
        windows: `1¦ 2@ 3# 6¬ 7| 8¢ '◌́ ◌̂◌̃ e€ è[ ◌̈] à{ $} <\\`,
    },
];

export const layout = (id) => LAYOUTS.find((one) => one.id === id);

/**
 * The layout that goes with the first language that has one.
 *
 * @param {readonly string[]} languages as `navigator.languages`, most wanted first
 */
export function layoutFor(languages) {
    for (const language of languages) {
        const wanted = language.toLowerCase();
        for (const tag of [wanted, wanted.split("-")[0]]) {
            const found = LAYOUTS.find((one) => one.languages.toLowerCase().split(" ").includes(tag));
            if (found) return found;
        }
    }
    return LAYOUTS[0];
}
